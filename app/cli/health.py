"""`kamal-sd healthcheck`, and a command line that has it alone."""

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

import typer

from app import web_config
from app.cli.options import EXIT_FOUND, Config, fail
from app.cli.root import root
from app.settings import Settings
from app.settings_file import SettingsError, load

_TIMEOUT_SECONDS = 3.0
_PATH = "/-/healthy"
# What OpenSSL says where the other side speaks no TLS.
_NO_TLS = "WRONG_VERSION_NUMBER"
# Whoever listens at every address is asked at the loopback one of the same family.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is what is replaced


class UnhealthyError(Exception):
    """The server did not answer as a healthy one does. The message says where, and how."""


def register(cli: typer.Typer) -> None:
    """Adds the command."""
    cli.command(epilog="Example: kamal-sd healthcheck --config config.yml")(healthcheck)


def healthcheck(config: Config = None) -> None:
    """Ask the server that runs beside this, with the same settings, whether it is healthy.

    Prints one line, and exits with 1 where it is not: made for the HEALTHCHECK of a container.
    """
    try:
        words = ask_health(load(config))
    except SettingsError as error:
        typer.echo("; ".join(str(error).splitlines()), err=True)
        raise typer.Exit(EXIT_FOUND) from None
    except UnhealthyError as error:
        fail(error, EXIT_FOUND)
    typer.echo(words)


def ask_health(settings: Settings) -> str:
    """What the server that listens as the settings say tells of its health.

    It is asked directly, whatever proxy the environment names. Where it lets nobody in without a
    certificate, that it does so is health enough. Raises UnhealthyError.
    """
    if settings.web_config is None:
        return _ask(settings, tls=None)
    try:
        told = web_config.load(settings.web_config).config.tls_server_config
        has_tls, may_hang_up = bool(told), bool(told and told.requires_client_cert)
    except SettingsError:
        # The server goes on with what the file said before.
        has_tls = may_hang_up = True
    try:
        return _ask(settings, _any_certificate() if has_tls else None)
    except ssl.SSLError as error:
        if error.reason == _NO_TLS:
            return _ask(settings, tls=None)
        problem = str(error)
    except ConnectionError as error:
        problem = str(error)
    # asyncio sends no alert: without a certificate, TLS is begun and then ended.
    if may_hang_up:
        return "kamal-sd is healthy: it hangs up on whoever has no client certificate."
    raise UnhealthyError(f"port {settings.listen_port} hangs up on TLS: {problem}")


def _any_certificate() -> ssl.SSLContext:
    # What is asked is no secret, and the certificate is for another name than loopback's.
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls


def _ask(settings: Settings, tls: ssl.SSLContext | None) -> str:
    """What it says. Raises UnhealthyError; with TLS what it hung up with, too."""
    host = _LOOPBACK.get(settings.listen_host, settings.listen_host)
    shown = f"[{host}]" if ":" in host else host
    url = f"{'https' if tls else 'http'}://{shown}:{settings.listen_port}{_PATH}"
    connection = (
        HTTPSConnection(host, settings.listen_port, timeout=_TIMEOUT_SECONDS, context=tls)
        if tls
        else HTTPConnection(host, settings.listen_port, timeout=_TIMEOUT_SECONDS)
    )
    try:
        connection.request("GET", _PATH)
        with connection.getresponse() as response:
            status, said = response.status, response.read(500)
    except ConnectionRefusedError as error:
        raise UnhealthyError(f"{url} does not answer: {error}") from None
    except (HTTPException, OSError) as error:
        if tls and isinstance(error, ssl.SSLError | ConnectionError):
            raise
        if isinstance(error, HTTPException):
            what = f"speaks no HTTP that can be understood: {error!r}"
        else:
            what = f"does not answer: {error}"
        raise UnhealthyError(f"{url} {what}") from None
    finally:
        connection.close()
    words = " ".join(said.decode(errors="replace").split())
    if status != 200:  # noqa: PLR2004 - OK
        raise UnhealthyError(f"{url} answered {status}: {words}")
    return words


# It runs every 30 s, and would import all of the server each time.
cli = root()
register(cli)
