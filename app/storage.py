"""Each engine's last good snapshot on disk, so that a restart during an outage serves at once."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from app.discovery.history import Entry
from app.model import Container, Snapshot

log = logging.getLogger(__name__)


class StorageError(Exception):
    """The folder for snapshots cannot be used. The message says which, and why."""


@dataclass(frozen=True)
class _File:
    format: Literal[1]
    url: str
    listed_at: float
    incumbents: tuple[str, ...]
    containers: tuple[Container, ...]


# A quoted host has no @ in it.
_HISTORY = "history@.json"


# What comes from a disk is checked as strictly as what comes from a person. What checks it is made
# when there is something to read or to write, which is after a first start.
@cache
def _files() -> TypeAdapter[_File]:
    return TypeAdapter(_File)


@cache
def _histories() -> TypeAdapter[list[Entry]]:
    return TypeAdapter(list[Entry])


class Storage:
    """A folder with one file an engine. `readable` says which container labels are taken back."""

    def __init__(self, directory: Path, readable: Callable[[str], bool]) -> None:
        self._directory = directory
        self._readable = readable
        self._failing: set[Path] = set()
        self._saved: dict[str, tuple[object, ...]] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{directory}: cannot be made: {error.strerror}") from None
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise StorageError(f"{directory}: cannot be written to")

    def save(self, snapshot: Snapshot, url: str) -> bool:
        """Writes the snapshot, and tells whether it is there. A failure is told in the log once.

        There is no fsync: a power cut may leave a damaged file, which `load` sets aside, and by
        then the engine's next list is at hand.
        """
        content = (snapshot.containers, snapshot.incumbents, snapshot.listed_at)
        if snapshot.listed_at is None or self._saved.get(snapshot.host) == content:
            return True
        file = _File(
            format=1,
            url=url,
            listed_at=snapshot.listed_at,
            incumbents=tuple(sorted(snapshot.incumbents)),
            containers=tuple(
                replace(each, labels=dict(each.labels)) for each in snapshot.containers.values()
            ),
        )
        if self._write(self._path(snapshot.host), _files().dump_json(file)):
            self._saved[snapshot.host] = content
            return True
        return False

    def save_peer(self, url: str, answer: bytes) -> None:
        """Writes what a peer answered last, as it came."""
        self._write(self._path_of_peer(url), answer)

    def load_peer(self, url: str) -> bytes | None:
        """What that peer answered last; None where nothing is known."""
        try:
            return self._path_of_peer(url).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s: cannot be read: %s", self._path_of_peer(url), error.strerror)
            return None

    def save_history(self, history: Iterable[Entry]) -> bool:
        """Writes what has happened, for the next run to tell; whether it is there."""
        return self._write(self._directory / _HISTORY, _histories().dump_json(list(history)))

    def load_history(self) -> list[Entry]:
        """What had happened up to the last run. A damaged file is set aside, and said."""
        path = self._directory / _HISTORY
        try:
            return _histories().validate_json(path.read_bytes())
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("%s: the history cannot be read: %s", path, error.strerror)
            return []
        except ValidationError as error:
            _set_aside(path, error)
            return []

    def load(self, host: str, url: str) -> Snapshot:
        """The last snapshot of that engine; an empty one where there is none.

        A damaged file is set aside, and said.
        """
        path = self._path(host)
        try:
            file = _files().validate_json(path.read_bytes())
        except FileNotFoundError:
            return Snapshot(host)
        except OSError as error:
            log.warning("%s: the snapshot cannot be read: %s", path, error.strerror)
            return Snapshot(host)
        except ValidationError as error:
            _set_aside(path, error)
            return Snapshot(host)
        if file.url != url:
            log.info("%s: is of the engine at %s, and is not used", path, file.url)
            return Snapshot(host)
        return Snapshot(
            host,
            containers=MappingProxyType({each.id: self._read(each) for each in file.containers}),
            listed_at=file.listed_at,
            lost_at=file.listed_at,
            error="not reached since kamal-sd started",
            incumbents=frozenset(file.incumbents),
        )

    def _write(self, path: Path, content: bytes) -> bool:
        try:
            _replace(path, content)
        except OSError as error:
            if path not in self._failing:
                log.warning("%s: the snapshot cannot be written: %s", path, error.strerror)
            self._failing.add(path)
        else:
            self._failing.discard(path)
        return path not in self._failing

    def _read(self, container: Container) -> Container:
        labels = {k: value for k, value in container.labels.items() if self._readable(k)}
        return replace(container, labels=labels)

    def _path(self, host: str) -> Path:
        # Quoted, so that no host can name a file outside the folder, or that of another host.
        return self._directory / f"{quote(host or 'engine', safe='')}.json"

    def _path_of_peer(self, url: str) -> Path:
        return self._directory / f"peer@{quote(url, safe='')}.json"


def _replace(path: Path, content: bytes) -> None:
    """Puts a whole file in the place of what is there, or leaves everything as it was."""
    # Under a name of its own each time: another kamal-sd may be writing here, too.
    descriptor, name = tempfile.mkstemp(".new", f"{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as beside:
            beside.write(content)
        Path(name).replace(path)
    except OSError:
        # What does not fit on a disk that is full is not to fill it.
        with suppress(OSError):
            Path(name).unlink()
        raise


def default_data_dir() -> Path:
    """Where a service keeps its state: root's place, else the user's (XDG Base Directory)."""
    if os.geteuid() == 0:
        return Path("/var/lib/kamal-sd")
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "kamal-sd"


def _set_aside(path: Path, error: ValidationError) -> None:
    aside = path.with_suffix(".damaged")
    log.warning("%s: is damaged, set aside as %s: %s", path, aside.name, _first(error))
    with suppress(OSError):
        path.replace(aside)


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip()
