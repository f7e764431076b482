"""The target groups in a file, for Prometheus' `file_sd_configs`: it watches the file, and so acts
on a change at once instead of after its refresh interval.

Format: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.follower import Follower
from app.state import State
from app.view import View

log = logging.getLogger(__name__)

# A full disk or a folder that is not mounted yet may be mended at any time.
_RETRY_SECONDS = 5.0
# Prometheus often runs as another user.
_MODE = 0o644


@contextmanager
def writing(path: Path, state: State) -> Iterator[None]:
    """Keeps the file true, as long as the context lasts. It stays afterwards, as it is.

    Nothing is written before `/targets` would answer, so no error empties the file.
    """
    follower = Follower(state, _Writer(path).act, "file_sd")
    follower.start()
    try:
        yield
    finally:
        follower.stop()
        follower.join()


class _Writer:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def act(self, view: View) -> float | None:
        """Writes what the view says; the seconds after which to try again."""
        try:
            if view.ready:
                _write(self._path, view.answer({}).body)
                self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("%s: the targets cannot be written: %s", self._path, error.strerror)
            self._failing = True
            return _RETRY_SECONDS
        return None


def _write(path: Path, content: bytes) -> None:
    """Replaces the file by a whole one, where its content is another."""
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        pass
    # The name begins with a dot, so that no pattern like *.json finds it.
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.chmod(_MODE)
    beside.replace(path)
