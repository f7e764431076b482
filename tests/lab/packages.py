"""Debian packages that the lab needs."""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.process import LabError, is_root, run

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "lab"
POLICY = Path("/usr/sbin/policy-rc.d")


def installed(package: str) -> bool:
    """Tell whether dpkg has the package, configured."""
    try:
        return run(["dpkg-query", "-W", "-f=${db:Status-Status}", package]) == "installed"
    except LabError:
        return False


def require(*packages: str) -> None:
    """Make sure that the packages are there; none of their services gets started."""
    if all(installed(package) for package in packages):
        return
    with _taking_turns():
        if missing := [package for package in packages if not installed(package)]:
            _install(missing)


def _install(missing: Sequence[str]) -> None:
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise LabError(f"the lab needs the Debian packages {names}, and this is no Debian machine")
    if not is_root():
        raise LabError(f"the lab needs Debian packages: run `apt-get install {names}` as root")
    started = time.monotonic()
    print(f"installing {names} ...", end="", file=sys.stderr, flush=True)
    # Somebody else may be installing something.
    waiting = ("-o", "DPkg::Lock::Timeout=300")
    install = ["apt-get", "-qq", *waiting, "install", "--no-install-recommends", *missing]
    with services_kept_down():
        _refresh()
        run(install, env=apt_environment(), timeout=600)
    print(f" done in {time.monotonic() - started:.0f} s", file=sys.stderr)


def unpacked(package: str, folder: Path | None = None, options: Sequence[str] = ()) -> Path:
    """Return a folder with the package's files, which is not installed.

    With `options` apt may have sources and a state of its own, which are refreshed as needed.
    """
    folder = folder or CACHE / package
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{package}-") as name:
        scratch = Path(name)
        download = ["apt-get", "-qq", *options, "download", package]
        try:
            run(download, cwd=scratch, env=apt_environment(), timeout=300)
        except LabError:
            # A fresh machine has no lists yet, and old lists name files that are gone.
            if not options and not is_root():
                raise
            with _taking_turns():
                _refresh(options)
            run(download, cwd=scratch, env=apt_environment(), timeout=300)
        run(["dpkg", "-x", next(scratch.glob("*.deb")), scratch / "files"])
        # Another run may have been quicker; its files are the same.
        with suppress(OSError):
            (scratch / "files").rename(folder)
    return folder


def mirror() -> str:
    """Return the address from which this machine gets Debian itself."""
    if shutil.which("apt-get") is None:
        raise LabError("the lab needs Debian packages, and this is no Debian machine")
    fields = "$(LABEL) $(COMPONENT) $(REPO_URI)"
    targets = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    found = run(targets, env=apt_environment())
    if "Debian main" not in found and is_root():
        # The label stands in the lists, which a fresh machine lacks.
        with _taking_turns():
            _refresh()
        found = run(targets, env=apt_environment())
    for line in found.splitlines():
        label, _, rest = line.partition(" ")
        if label == "Debian" and rest.startswith("main "):
            return rest.removeprefix("main ")
    raise LabError("apt's sources name no mirror of Debian; run `apt-get update` as root")


def apt_environment() -> dict[str, str]:
    """Return the caller's environment (a proxy may stand in it), less questions."""
    return os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def _refresh(options: Sequence[str] = ()) -> None:
    """Fetch the lists of what there is."""
    run(["apt-get", "-qq", *options, "update"], env=apt_environment(), timeout=300)


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Keep the other half of `make test` from apt meanwhile, which does not wait for its lists."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def services_kept_down() -> Iterator[None]:
    """Forbid packages to start their services while they are installed."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
