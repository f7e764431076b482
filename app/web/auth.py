"""Who may ask: the host's name, basic auth and bearer tokens, and which path needs which right.

Pure ASGI, around all of the app. What is asked for is told apart by the decoded path, as the router
does it.
"""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access import Access, digest
from app.discovery.relay import PREFIX
from app.web.parameters import RETRY_AFTER
from app.web.passwords import BusyError, Passwords
from app.web_config import Right, Rights

# Whoever asks these learns yes or no, and nothing else. The image's HEALTHCHECK has no password.
OPEN = frozenset({"/-/healthy", "/-/ready"})
_RIGHTS: dict[str, Right] = {"/targets": "targets", "/-/reload": "reload"}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# For the document: what is answered to those who may not ask, and how they say who they are.
REFUSALS: dict[str, dict[str, Any]] = {
    "401": {"description": "It needs a user or a token of the web config file."},
    "403": {"description": "The user or the token has not the right to it."},
    "421": {"description": "The host's name is not in kamal_sd.hosts of the web config file."},
    "429": {"description": "Too many passwords are being checked.", "headers": RETRY_AFTER},
}
SECURITY_SCHEMES = {scheme: {"type": "http", "scheme": scheme} for scheme in ("basic", "bearer")}


class Guard:
    """Lets those through who may ask, as it is `now`, until the server is `ending`."""

    def __init__(self, app: ASGIApp, now: Callable[[], Access], ending: asyncio.Event) -> None:
        self._app = app
        self._now = now
        self._passwords = Passwords(ending)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        access = self._now()
        if access.headers:
            # Where more headers are to come, an answer cannot be ready.
            scope["extensions"] = {}
            send = _adding(access.headers, send)
        refusal = None
        if scope["path"] not in OPEN:
            refusal = _misled(access, scope) or await self._refused(access, scope)
        await (refusal or self._app)(scope, receive, send)

    async def _refused(self, access: Access, scope: Scope) -> Response | None:
        """The answer to somebody who may not ask; None for whoever may."""
        if not access.asks_who:
            return None
        authorization = Headers(scope=scope).get("authorization", "")
        client = scope.get("client") or ("",)
        try:
            rights = await self._rights(access, authorization, client[0])
        except BusyError:
            text = "too many passwords are being checked\n"
            return PlainTextResponse(text, status_code=429, headers={"Retry-After": "5"})
        if rights is None:
            return _unauthorised(access)
        right = _right_for(scope["path"])
        if right not in rights:
            text = f"this needs the right {right}: see kamal_sd in the web config file\n"
            return PlainTextResponse(text, status_code=403)
        return None

    async def _rights(self, access: Access, authorization: str, client: str) -> Rights | None:
        """What the credentials allow; None where they are not right. Raises BusyError."""
        scheme, space, given = authorization.strip().partition(" ")
        if not space:
            # Prometheus 2.42 leaves "Bearer" out, in http_sd_configs without a type.
            scheme, given = "bearer", scheme
        # Starlette reads headers as Latin-1, which every byte is in.
        credentials = given.strip().encode("latin-1")
        if scheme.lower() == "bearer":
            return _rights_of_token(access, credentials)
        if scheme.lower() != "basic" or not access.users:
            return None
        try:
            name, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
        except binascii.Error:
            return None
        hashes = {user: each.password_hash for user, each in access.users.items()}
        if colon and await self._passwords.are_right(hashes, name, password, client):
            return access.users[name].rights
        return None


def _rights_of_token(access: Access, token: bytes) -> Rights | None:
    # All are compared, however early one is found.
    given = digest(token)
    found = [each.rights for each in access.tokens if hmac.compare_digest(each.digest, given)]
    return frozenset[Right]().union(*found) if found else None


def _misled(access: Access, scope: Scope) -> Response | None:
    """The answer to a browser that a stranger's page has ask here; None for everybody else."""
    headers = Headers(scope=scope)
    if access.hosts and not _is_of(headers.get("host", ""), access.hosts):
        text = "this host name is not in kamal_sd.hosts of the web config file\n"
        return PlainTextResponse(text, status_code=421)
    # A browser says so itself of what another site's page has it send.
    site = headers.get("sec-fetch-site", "none")
    if scope["method"] not in _SAFE and site not in ("none", "same-origin"):
        return PlainTextResponse("another site's page sent this\n", status_code=403)
    return None


def _right_for(path: str) -> Right:
    if path.startswith(PREFIX):
        return "scrape"
    return _RIGHTS.get(path, "read")


def _is_of(host: str, allowed: frozenset[str]) -> bool:
    """Whether the Host header names one that is allowed, with its port or with any."""
    host = host.lower()
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return host in allowed or (f"[{name}]" if ":" in name else name) in allowed


def _unauthorised(access: Access) -> Response:
    answer = PlainTextResponse("this needs a user or a token\n", status_code=401)
    if access.users:
        answer.headers.append("WWW-Authenticate", 'Basic realm="kamal-sd", charset="UTF-8"')
    if access.tokens:
        answer.headers.append("WWW-Authenticate", 'Bearer realm="kamal-sd"')
    return answer


def _adding(headers: tuple[tuple[bytes, bytes], ...], send: Send) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message["headers"])
            names = {name.lower() for name, _ in own}
            own += [each for each in headers if each[0] not in names]
            message = {**message, "headers": own}
        await send(message)

    return adding
