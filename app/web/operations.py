"""Health, readiness and metrics, where Prometheus' users look for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from app.metrics import CONTENT_TYPE, Metrics
from app.state import State

# Has the settings read anew: what is wrong with them, empty where they were taken.
Reload = Callable[[], Future[str]]


def router(state: State, metrics: Metrics, reload: Reload) -> APIRouter:
    """The routes, over this state and its metrics."""
    routes = APIRouter(tags=["operations"], default_response_class=PlainTextResponse)

    @routes.get("/metrics")
    async def own_metrics() -> Response:
        """kamal-sd's own metrics, in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @routes.get("/-/healthy")
    async def healthy() -> str:
        """The process answers."""
        return "kamal-sd is healthy.\n"

    @routes.get("/-/ready", responses={503: {"description": "No list of containers yet."}})
    async def ready() -> Response:
        """`/targets` is served. An engine that is lost later does not change that.

        One of several that cannot be reached keeps it back for `startup_grace`.
        """
        if state.view.ready:
            return PlainTextResponse("kamal-sd is ready.\n")
        return PlainTextResponse("kamal-sd waits for its first list.\n", status_code=503)

    @routes.post(
        "/-/reload",
        responses={
            403: {"description": "The settings do not allow it: reload.http."},
            500: {"description": "The settings cannot be used; the text says why. None is taken."},
        },
    )
    async def reload_settings() -> Response:
        """Reads the settings anew, and answers when they hold."""
        if not state.settings.reload.http:
            text = "reload.http is not true in the settings; send SIGHUP, or change the file\n"
            return PlainTextResponse(text, status_code=403)
        if error := await asyncio.wrap_future(reload()):
            text = f"the new settings are refused, and the old ones stay: {error}\n"
            return PlainTextResponse(text, status_code=500)
        return PlainTextResponse("the settings were read anew\n")

    return routes
