"""Answers of GET /targets that were given once, given again while nothing has changed.

Pure ASGI, in front of the routes: what these do for a request, reading its parameters above all,
costs many times what it takes to hand out bytes that are there. After a change the like of a
request that was read once is answered anew without being read again.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app import ready
from app.state import State
from app.view import View
from app.web.shared import BusyError
from app.web.targets import AGAIN, AGE_HEADER, PATH, list_age

# A caller chooses what it asks for, so what is remembered of that is bounded.
_MOST = 64
# The headers that an answer depends on, together with the query and the view.
_HEADERS = frozenset({b"host", b"accept-encoding", b"if-none-match"})
_AGE = AGE_HEADER.lower().encode()
_KEPT_STATUSES = frozenset({200, 304})


class _Answer(NamedTuple):
    """What was answered, less its age, which is told anew each time. `route` is for the metrics."""

    status: int
    headers: list[tuple[bytes, bytes]]
    head: bytes
    body: bytes
    route: Any

    @classmethod
    def of(cls, response: Response, route: Any) -> Self:  # noqa: ANN401
        """What the response has."""
        headers = [each for each in response.raw_headers if each[0] != _AGE]
        head, body = ready.head(headers), bytes(response.body)
        return cls(response.status_code, headers, head, body, route)

    async def give(self, scope: Scope, send: Send, age: bytes) -> None:
        """Sends it, as bytes that are ready where the server takes these."""
        scope["route"] = self.route
        if ready.EXTENSION in scope.get("extensions", ()):
            head = b"%s%s: %s\r\n" % (self.head, _AGE, age)
            await send(ready.message(self.status, head, self.body))
            return
        headers = [*self.headers, (_AGE, age)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class _Question(NamedTuple):
    """How the like of a request is answered anew. `route` is for the metrics."""

    route: Any
    again: Callable[[], Awaitable[Response]]


class Remembered:
    """Asks the app, and no second time for the same while the state's view is the same."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state
        self._view: View | None = None
        self._answers: dict[object, _Answer] = {}
        self._questions: dict[object, _Question] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        view = self._state.view
        if view is not self._view:
            # Another dict, so that an answer on its way does not get among those of a later view.
            self._view, self._answers = view, {}
        key = (scope["query_string"], *[each for each in scope["headers"] if each[0] in _HEADERS])
        if known := self._answers.get(key) or await self._again(key):
            await known.give(scope, send, list_age(view, self._state.now()).encode())
            return
        await self._app(scope, receive, send)
        if AGAIN in scope:
            if len(self._questions) >= _MOST:
                self._questions.clear()
            self._questions[key] = _Question(scope["route"], scope[AGAIN])

    async def _again(self, key: object) -> _Answer | None:
        """An answer of now to a question that was asked before; None where it is to be asked."""
        answers, question = self._answers, self._questions.get(key)
        if question is None:
            return None
        try:
            response = await question.again()
        except BusyError:
            return None
        if response.status_code not in _KEPT_STATUSES:
            return None
        if len(answers) >= _MOST:
            answers.clear()
        answers[key] = _Answer.of(response, question.route)
        return answers[key]
