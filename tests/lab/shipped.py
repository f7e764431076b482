"""kamal-sd's image, made by the shipped Dockerfile from Debian's packages and the lock."""

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.lab.engine import Docker
from tests.lab.packages import CACHE
from tests.lab.process import LabError, run, system_environment
from tests.lab.root import debian_root
from tests.lab.sd import REPOSITORY

SUITE, PYTHON = "trixie", "3.13"
BASE = "kamal-sd-lab/python"
BUILD_BASE = "kamal-sd-lab/python-build"
# What Debian keeps for people and for apt, and an image has no use for.
LEFT_OUT = (
    *("var/cache/apt", "var/lib/apt/lists", "var/log"),
    *("usr/share/doc", "usr/share/man", "usr/share/locale"),
)
BUILD_FILE = f"""\
FROM {BASE}
COPY wheels /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
"""
# The time stays what the lab says, whatever the Dockerfile's own default is.
EPOCH = 1_700_000_000


def build(
    engine: Docker,
    reference: str,
    *,
    context: Path = REPOSITORY,
    buildkit: bool | None = None,
    fresh: bool = False,
    arguments: Mapping[str, str] | None = None,
) -> str:
    """Build the shipped Dockerfile and return the image's reference.

    The build has no network: whatever it installs was fetched before, as the locks name it.
    `buildkit` chooses a builder, and `fresh` uses nothing of an earlier build.
    """
    if not engine.docker("images", "-q", BUILD_BASE):
        _import_bases(engine)
    values = {
        "BASE": BASE,
        "BUILD_BASE": BUILD_BASE,
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "VERSION": "1.2.3",
        "REVISION": "0123456789abcdef",
    } | dict(arguments or {})
    options = [
        word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")
    ]
    chosen = {} if buildkit is None else {"DOCKER_BUILDKIT": str(int(buildkit))}
    run(
        [
            *("docker", "build", "--quiet", "--network=none", "--tag", reference),
            *(["--no-cache"] if fresh else []),
            *(*options, str(context)),
        ],
        env=system_environment(DOCKER_HOST=engine.url, HOME="/nonexistent", **chosen),
        timeout=300,
    )
    return reference


def layers(engine: Docker, reference: str) -> list[str]:
    """Return the digests of an image's layers, the base's first."""
    form = "{{range .RootFS.Layers}}{{println .}}{{end}}"
    return engine.docker("image", "inspect", "--format", form, reference).split()


def _import_bases(engine: Docker) -> None:
    """Import the base, and what the build runs on: the base and the wheels."""
    engine.docker("import", _debian(), BASE)
    with tempfile.TemporaryDirectory(prefix="kamal-sd-lab-") as name:
        context = Path(name)
        (context / "Dockerfile").write_text(BUILD_FILE)
        shutil.copytree(_wheels(), context / "wheels")
        engine.docker("build", "--quiet", "--tag", BUILD_BASE, context)


def _debian() -> Path:
    """Return an archive of Debian with Python and nothing else, made once."""
    archive = CACHE / f"{SUITE}-python.tar"
    if archive.exists():
        return archive
    root = debian_root(SUITE, "python3", "python3-venv", "ca-certificates")
    excluded = [f"--exclude=./{each}/*" for each in LEFT_OUT]
    scratch = archive.with_suffix(".new")
    run(["tar", "--create", "--directory", root, *excluded, "--file", scratch, "."])
    scratch.rename(archive)
    return archive


def _wheels() -> Path:
    """Return a folder with the wheels that the Dockerfile installs, fetched once for a lock.

    The machine's own pip fetches them, however it reaches the index; the build does not need to.
    """
    build = build_lock()
    wanted = (REPOSITORY / "requirements.lock").read_text() + build
    folder = CACHE / f"wheels-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".wheels-") as name:
        lock, scratch = Path(name) / "wanted.lock", Path(name) / "wheels"
        lock.write_text(wanted)
        tags = [f"{kind}_{platform.machine()}" for kind in ("manylinux2014", "manylinux_2_28")]
        command = [
            *(sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"),
            *(f"--abi={abi}" for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")),
            *(f"--platform={tag}" for tag in tags),
            *("--dest", str(scratch), "--requirement", str(lock)),
        ]
        run(command, env=os.environ, timeout=300)
        # Another run may have been quicker; its files are the same.
        with suppress(OSError):
            scratch.rename(folder)
    return folder


def build_lock() -> str:
    """Return the part of the developers' lock that the Dockerfile takes its build backend from."""
    found = re.search(r"\^\(([a-z|-]+)\)==", (REPOSITORY / "Dockerfile").read_text())
    if not found:
        raise LabError("the Dockerfile does not say any more what its build backend is made of")
    names = found[1].split("|")
    entries = re.split(
        r"^(?=\S)", (REPOSITORY / "requirements-dev.lock").read_text(), flags=re.MULTILINE
    )
    return "".join(each for each in entries if each.partition("==")[0] in names)
