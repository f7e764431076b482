"""Who may ask for what: made of the web config file, and made anew whenever it changes."""

import hashlib
import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

from app import server_tls, web_config
from app.polling import polling
from app.settings_file import SettingsError
from app.web_config import ALL_RIGHTS, Rights, WebFile

log = logging.getLogger(__name__)

# A look costs a `stat` for each file; it decides how late a change is seen.
_PERIOD_SECONDS = 1.0


class User(NamedTuple):
    """A user of basic auth."""

    password_hash: bytes
    rights: Rights


class Token(NamedTuple):
    """A bearer token, of which its digest alone is kept."""

    digest: bytes
    rights: Rights


class Access(NamedTuple):
    """What holds at a time. Without users and tokens, everybody who gets in has all rights.

    `hosts` are those that may be asked for; all where there are none. `headers` are for every
    answer.
    """

    users: Mapping[bytes, User] = MappingProxyType({})
    tokens: tuple[Token, ...] = ()
    hosts: frozenset[str] = frozenset()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    requires_client_cert: bool = False

    @property
    def asks_who(self) -> bool:
        """Whether a request needs a user or a token."""
        return bool(self.users or self.tokens)


EVERYBODY = Access()


def digest(token: bytes) -> bytes:
    """What a token is compared by. It is as long for a short one."""
    return hashlib.sha256(token).digest()


def load(path: Path) -> Access:
    """What a web config file says now. Raises SettingsError."""
    return _access(web_config.load(path))


class LiveAccess:
    """The access that a web config file gives, as it is now. Raises SettingsError at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._seen: object = None
        self._said = ""
        self._files = [path]
        self.now = EVERYBODY
        self._take()

    def read(self) -> None:
        """Reads the file anew. Raises SettingsError; then what held before goes on to hold."""
        with self._lock:
            self._read()

    def _read(self) -> None:
        try:
            self._take()
        except SettingsError as error:
            # Looked at again: what it names may come later.
            self._seen = None
            if str(error) != self._said:
                self._said = str(error)
                log.warning("%s; what held before stays", "; ".join(self._said.splitlines()))
            raise
        log.info("%s: read anew", self._path)
        self._said = ""

    def look(self) -> None:
        """Reads the file anew if it has changed, or one of those that it names."""
        if self._stamps() != self._seen:
            try:
                self.read()
            except SettingsError:
                return

    def _take(self) -> None:
        while True:
            # Before they are read, so that no change falls in between.
            seen = self._stamps()
            file = web_config.load(self._path)
            access = _access(file)
            if file.files == self._files:
                break
            self._files = file.files
        if self.now is not EVERYBODY and bool(self.now.tls) != bool(access.tls):
            turned = "on" if access.tls else "off"
            raise file.error(("tls_server_config",), f"TLS is turned {turned} by a restart alone")
        self._seen, self.now = seen, access

    def _stamps(self) -> object:
        return [_stamp(each) for each in self._files]


@contextmanager
def following(live: LiveAccess, period: float = _PERIOD_SECONDS) -> Iterator[None]:
    """Looks at the file for as long as the context lasts."""
    with polling(live.look, period, "web config"):
        yield


def _access(file: WebFile) -> Access:
    config, own = file.config, file.config.kamal_sd
    tls = config.tls_server_config
    return Access(
        users={
            name.encode(): User(text.encode(), own.users.get(name, ALL_RIGHTS))
            for name, text in config.basic_auth_users.items()
        },
        tokens=tuple(
            Token(digest(token), each.rights)
            for token, each in zip(file.tokens, own.tokens, strict=True)
        ),
        hosts=frozenset(own.hosts),
        headers=tuple(_encoded(config.http_server_config.headers.items())),
        tls=server_tls.context(file, tls) if tls else None,
        allowed_sans=frozenset(tls.client_allowed_sans if tls else ()),
        requires_client_cert=bool(tls and tls.requires_client_cert),
    )


def _encoded(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        if value:
            yield name.lower().encode(), value.encode()


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
