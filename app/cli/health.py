"""Whether the server of these settings is healthy, for the image's HEALTHCHECK."""

from http.client import HTTPConnection, HTTPException

from app.settings import Settings

_TIMEOUT_SECONDS = 3.0
_PATH = "/-/healthy"
# Whoever listens at every address is asked at the loopback one of the same family.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is what is replaced


class UnhealthyError(Exception):
    """The server did not answer as a healthy one does. The message says where, and how."""


def ask_health(settings: Settings) -> str:
    """What the server that listens as the settings say tells of its health.

    It is asked directly, whatever proxy the environment names. Raises UnhealthyError.
    """
    host = _LOOPBACK.get(settings.listen_host, settings.listen_host)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{settings.listen_port}{_PATH}"
    connection = HTTPConnection(host, settings.listen_port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", _PATH)
        with connection.getresponse() as response:
            status, said = response.status, response.read(500)
    except HTTPException as error:
        raise UnhealthyError(f"{url} speaks no HTTP that can be understood: {error!r}") from None
    except OSError as error:
        raise UnhealthyError(f"{url} does not answer: {error}") from None
    finally:
        connection.close()
    words = " ".join(said.decode(errors="replace").split())
    if status != 200:  # noqa: PLR2004 - OK
        raise UnhealthyError(f"{url} answered {status}: {words}")
    return words
