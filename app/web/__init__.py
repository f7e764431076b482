"""The way out over HTTP: answers read the state's view, and ask no engine for anything."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.access import Access
from app.metrics import Metrics, RequestMetrics
from app.state import State
from app.web import events, explain, operations, page, relay, targets, wait
from app.web.apps import Apps
from app.web.auth import OPEN, REFUSALS, SECURITY_SCHEMES, Guard
from app.web.parameters import TEXT
from app.web.remembered import Remembered
from app.web.shared import BusyError, Workshop, busy


def create_app(
    state: State,
    reload: operations.Reload,
    access: Callable[[], Access] | None = None,
) -> FastAPI:
    """The ASGI app that serves this state, to everybody where no `access` is told.

    Its `state.ending` is set before the server ends.
    """
    metrics = Metrics(state)
    apps = Apps(state)
    ending = asyncio.Event()
    workshop = Workshop()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with apps.running():
            yield

    app = _App(
        title="kamal-sd",
        summary="Prometheus service discovery for apps deployed with Kamal",
        version=__version__,
        # Their pages load scripts from the net. The document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for router in (
        relay.routes,
        targets.router(state, workshop),
        explain.router(state, workshop),
        events.router(state, ending),
        page.router(state, workshop),
        wait.router(state),
        operations.router(state, metrics, reload),
    ):
        # include_router would have all of them made once more by whoever asks first.
        app.router.routes += router.routes
    app.front = relay.Relay(Remembered(app.behind, state), state, apps, metrics.relay)
    app.is_guarded = access is not None
    if access:
        app.front = Guard(app.front, now=access, ending=ending)
    # Around the guard, so that those who were refused are counted, too.
    app.front = _Timed(app.front, metrics.requests)
    app.state.ending = ending
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(BusyError, busy)
    return app


class _Timed:
    """Counts the requests, and for how long each took. Pure ASGI: it costs next to nothing."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Who hangs up before there is an answer is counted as nginx does it.
        code = 499

        async def noting(message: Message) -> None:
            nonlocal code
            code = message.get("status", code)
            await send(message)

        started = time.monotonic()
        try:
            await self._app(scope, receive, noting)
        finally:
            handler = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(handler, code, time.monotonic() - started)


class _App(FastAPI):
    """FastAPI, and in front of it what is spared all that FastAPI does for a request."""

    front: ASGIApp
    is_guarded = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """FastAPI itself."""
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document, less the 422 that FastAPI adds: what is wrong is answered with 400 here.

        What has no other content is a text for people.
        """
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        for path, methods in document["paths"].items():
            for operation in methods.values():
                operation["responses"].pop("422", None)
                if self.is_guarded and path not in OPEN:
                    operation["security"] = [{scheme: []} for scheme in SECURITY_SCHEMES]
                    operation["responses"] = REFUSALS | operation["responses"]
                for status, response in operation["responses"].items():
                    if status != "304" and "content" not in response:
                        operation["responses"][status] = {**response, "content": TEXT}
        for schema in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(schema, None)
        if self.is_guarded:
            document["components"]["securitySchemes"] = SECURITY_SCHEMES
        return document


async def _bad_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for this alone
    mistakes = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
    return PlainTextResponse("\n".join(mistakes) + "\n", status_code=400)
