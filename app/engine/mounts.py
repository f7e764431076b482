"""What a container's own mounts say of the engine's socket."""

import os
import re
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def is_left_behind(socket: str, table: Path = _TABLE) -> bool:
    """Whether the socket was mounted as a file that is gone: an engine that restarts makes another.

    proc(5): the fourth field of a line is what was mounted, with `//deleted` behind it where that
    is gone (fs/proc_namespace.c), and the fifth is where; in both a blank is `\\040`.
    """
    place = os.path.realpath(socket)
    try:
        rows = [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return False
    return any(row[3].endswith("//deleted") and _plain(row[4]) == place for row in rows)


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
