"""kamal-proxy's state file: to which container it sends the traffic of each service.

Facts: kamal-proxy 0.9.2, `internal/server/router.go` and `service.go`: a JSON array of services
with `name` and `active_targets` (`active_target` up to 0.8.7), each target the short id of a
container with its port. It is written over in place, so what is read may be half of it. The folder
around it holds the keys of certificates; nothing but this one file is opened.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.polling import polling

log = logging.getLogger(__name__)

# A look costs a `stat`; it decides how late a switch of the traffic is seen.
_PERIOD_SECONDS = 0.25

Active = Mapping[str, frozenset[str]]


@contextmanager
def following(
    path: Path, publish: Callable[[Active], object], period: float = _PERIOD_SECONDS
) -> Iterator[None]:
    """Reads the file at once and whenever it changes, as long as the context lasts."""
    reader = _Reader(path, publish)
    reader.look()
    with polling(reader.look, period, "kamal-proxy state"):
        yield


def parse(content: bytes) -> Active:
    """The short ids of the active containers, by the service's name. Raises ValueError."""
    services = json.loads(content)
    if not isinstance(services, list):
        raise ValueError(f"it is a {type(services).__name__} and no list")  # noqa: TRY004
    active = {}
    for service in services:
        if not isinstance(service, dict) or not isinstance(service.get("name"), str):
            raise ValueError("it has a service without a name")  # noqa: TRY004
        targets = service.get("active_targets") or [service.get("active_target")]
        if not isinstance(targets, list):
            raise ValueError("active_targets is no list")  # noqa: TRY004
        ids = [target.partition(":")[0] for target in targets if isinstance(target, str)]
        active[service["name"]] = frozenset(each for each in ids if each)
    return active


class _Reader:
    """What was read last stays true for as long as nothing better can be read."""

    def __init__(self, path: Path, publish: Callable[[Active], object]) -> None:
        self._path = path
        self._publish = publish
        self._seen: object = None
        self._known: Active = {}
        self._said = ""

    def look(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return
            active = parse(self._path.read_bytes())
        except OSError as error:
            self._say(f"cannot be read: {error.strerror}")
        except (ValueError, RecursionError) as error:
            # Half written, as a rule; the other half changes its size again.
            self._say(f"is not kamal-proxy's state: {error}")
        else:
            self._seen, self._said = seen, ""
            if active != self._known:
                self._known = active
                self._publish(active)

    def _say(self, words: str) -> None:
        if words != self._said:
            log.warning("%s: %s; what was known of it before stays", self._path, words)
        self._said = words
