"""What a server has to look at in a request's head that llhttp, strict as it is, lets pass."""

import re
from collections.abc import Sequence
from http import HTTPStatus

_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)

# A target may be a whole URL (RFC 9112, 3.2.2); then what counts here is its path.
_SITE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


class RefusedError(Exception):
    """The app is not asked, and nothing is read after it on the connection."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def check(
    method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]], most_body: int
) -> None:
    """Raises RefusedError where HTTP has the server refuse what llhttp lets pass.

    The names of the headers are in lower case; `most_body` is in bytes.
    """
    hosts = [value for name, value in headers if name == b"host"]
    given = dict(headers)
    if version not in ("1.0", "1.1"):
        raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here")
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{len(hosts)} Host headers instead of one")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Host is no host")
    if method == b"CONNECT":
        raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, "this is no proxy")
    if b"transfer-encoding" in given:
        raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length here")
    if int(given.get(b"content-length", b"0")) > most_body:
        raise RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the request's body has more than {most_body} bytes",
        )


def path_of(method: bytes, target: bytes) -> bytes:
    """The path and the query of a request's target. Raises RefusedError."""
    if target.startswith(b"/"):
        return target
    if method == b"OPTIONS" and target == b"*":
        return b"/"
    if site := _SITE.match(target):
        path = target[site.end() :]
        return path if path.startswith(b"/") else b"/" + path
    raise RefusedError(HTTPStatus.BAD_REQUEST, "the request's target is no path")
