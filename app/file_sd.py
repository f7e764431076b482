"""The target groups in a file, for Prometheus' `file_sd_configs`: it watches the file, and so acts
on a change at once instead of after its refresh interval.

Format: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from threading import Thread

from app.state import State

log = logging.getLogger(__name__)

# A full disk or a folder that is not mounted yet may be mended at any time.
_RETRY_SECONDS = 5.0
# What is due later than that is looked at again; longer waits overflow at some point.
_LONGEST_WAIT_SECONDS = 3600.0
# Prometheus often runs as another user.
_MODE = 0o644


@contextmanager
def writing(path: Path, state: State) -> Iterator[None]:
    """Keeps the file true, as long as the context lasts. It stays afterwards, as it is.

    Nothing is written before every engine was listed once, so no error empties the file.
    """
    changed, stopping = Flag(), Flag()
    with state.telling(changed.set):
        thread = Thread(
            target=_run, args=(path, state, changed, stopping), name="file_sd", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            changed.set()
            thread.join()


def _run(path: Path, state: State, changed: Flag, stopping: Flag) -> None:
    failing = False
    while not stopping.is_set():
        changed.clear()
        view = state.view
        # Time alone may change a decision; then nobody tells.
        wait = view.changes_at - state.now()
        try:
            if view.ready:
                _write(path, view.answer({}).body)
                failing = False
        except OSError as error:
            if not failing:
                log.warning("%s: the targets cannot be written: %s", path, error.strerror)
            failing, wait = True, _RETRY_SECONDS
        changed.wait(min(max(0.0, wait), _LONGEST_WAIT_SECONDS))


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
