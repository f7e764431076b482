"""A connection to another kamal-sd."""

import time

import httpcore

from app import __version__
from app.discovery.peer import PeerError
from app.peer_credentials import CredentialsError, headers_for, tls_for
from app.settings import PeerSettings

# As many bytes as 50,000 containers need. More is no answer of a kamal-sd.
_MOST_BYTES = 64 * 1024 * 1024
_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)


class Client:
    """A connection to a peer, kept alive."""

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self._url = f"{settings.url}/explain?peers=false" + "&address=relay" * settings.relay
        self._pool: httpcore.ConnectionPool | None = None

    def document(self) -> bytes:
        """The body of the peer's /explain. Raises PeerError."""
        timeout = self._settings.timeout
        deadline = time.monotonic() + timeout
        extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}
        body = bytearray()
        try:
            headers = [
                (b"accept", b"application/json"),
                (b"user-agent", f"kamal-sd/{__version__}".encode()),
                *headers_for(self._settings),
            ]
            with self._connections().stream(
                "GET", self._url, headers=headers, extensions=extensions
            ) as answer:
                for chunk in answer.iter_stream():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise PeerError(f"it answers with more than {_MOST_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise PeerError(f"no whole answer within {timeout:g} s")
        except CredentialsError as error:
            raise PeerError(str(error)) from None
        except _ERRORS as error:
            raise PeerError(f"it does not answer: {str(error) or type(error).__name__}") from None
        if answer.status != 200:  # noqa: PLR2004 - OK
            said = " ".join(body[:300].decode(errors="replace").split())
            raise PeerError(f"it answered {answer.status}: {said}")
        return bytes(body)

    def _connections(self) -> httpcore.ConnectionPool:
        # Made when it is needed, so that a certificate file that is missing is told, and found
        # again without a restart.
        if self._pool is None:
            self._pool = httpcore.ConnectionPool(ssl_context=tls_for(self._settings))
        return self._pool

    def close(self) -> None:
        """Ends it."""
        if self._pool is not None:
            self._pool.close()
