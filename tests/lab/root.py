"""Roots of other Debian suites, for programs that this machine's own suite does not have."""

import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.lab.packages import CACHE, apt_environment, mirror, require
from tests.lab.process import SYSTEM_PATH, LabError, is_root, run


def debian_root(suite: str, *packages: str) -> Path:
    """Return a root of a Debian suite with the packages; it is made once and then kept.

    Virtual packages are not resolved: whatever stands for one has to be named.
    """
    root = CACHE / "-".join(["root", suite, *sorted(packages)])
    if root.is_dir():
        return root
    if not is_root():
        raise LabError(f"a root of Debian {suite} can be made by root alone: run this as root")
    require("debootstrap")
    CACHE.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print(f"making a root of Debian {suite} ...", end="", file=sys.stderr, flush=True)
    scratch = Path(tempfile.mkdtemp(dir=CACHE, prefix=f".{root.name}-"))
    try:
        include = f"--include={','.join(packages)}"
        made = scratch / "root"
        make = ["debootstrap", "--variant=minbase", include, suite, str(made), mirror()]
        run(make, env=apt_environment() | {"PATH": SYSTEM_PATH}, timeout=1200)
        # What is unpacked stays; what it came in does not.
        shutil.rmtree(made / "var/cache/apt/archives")
        # Another run may have been quicker.
        with suppress(OSError):
            made.rename(root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f" done in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return root
