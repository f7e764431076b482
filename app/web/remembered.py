"""Answers of GET /targets that were given once, given again while nothing has changed.

Pure ASGI, in front of the routes: what these do for a request, reading its parameters above all,
costs many times what it takes to hand out bytes that are there.
"""

from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import ready
from app.state import State
from app.view import View
from app.web.targets import AGE_HEADER, PATH, list_age

# A caller chooses what it asks for, so what is remembered of that is bounded.
_MOST_ANSWERS = 64
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


class Remembered:
    """Asks the app, and no second time for the same while the state's view is the same."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state
        self._view: View | None = None
        self._answers: dict[object, _Answer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        view = self._state.view
        if view is not self._view:
            # Another dict, so that an answer on its way does not get among those of a later view.
            self._view, self._answers = view, {}
        key = (scope["query_string"], *[each for each in scope["headers"] if each[0] in _HEADERS])
        if known := self._answers.get(key):
            await known.give(scope, send, list_age(view, self._state.now()).encode())
        else:
            await self._ask(scope, receive, send, key)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, key: object) -> None:
        answers, said = self._answers, list[Message]()

        async def noting(message: Message) -> None:
            said.append(message)
            await send(message)

        await self._app(scope, receive, noting)
        start, *rest = said
        if start["status"] in _KEPT_STATUSES:
            if len(answers) >= _MOST_ANSWERS:
                answers.clear()
            headers = [each for each in start["headers"] if each[0] != _AGE]
            head = b"".join(b"%s: %s\r\n" % header for header in headers)
            body = b"".join(message["body"] for message in rest)
            answers[key] = _Answer(start["status"], headers, head, body, scope["route"])
