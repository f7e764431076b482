"""Images of the machine's own programs, in place of their makers' images."""

import io
import re
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.lab.engine import Docker
from tests.lab.packages import require
from tests.lab.process import LabError, run


def haproxy(engine: Docker, reference: str) -> str:
    """Import HAProxy with the places and the command of its makers' image."""
    command = '["/usr/sbin/haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'
    return image(engine, reference, "haproxy", changes=[f"CMD {command}", "USER 99:99"])


def prometheus(engine: Docker, reference: str) -> str:
    """Import Prometheus with the places and the command of its makers' image."""
    options = '["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]'
    changes = [
        'ENTRYPOINT ["/usr/bin/prometheus"]',
        f"CMD {options}",
        *("USER 65534:65534", "WORKDIR /prometheus", "VOLUME /prometheus"),
    ]
    return image(engine, reference, "prometheus", changes=changes, folders={"prometheus": 65534})


def image(
    engine: Docker,
    reference: str,
    package: str,
    *,
    changes: Iterable[str],
    folders: Mapping[str, int] | None = None,
) -> str:
    """Import a Debian package's program of the same name, its libraries and some folders.

    `folders` maps a folder to its owner. Return the image's reference.
    """
    require(package)
    options = [word for change in changes for word in ("--change", change)]
    engine.docker("import", *options, "-", reference, data=_archive(package, folders or {}))
    return reference


def _archive(name: str, folders: Mapping[str, int]) -> bytes:
    found = shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise LabError(f"Debian's package {name} has no program {name}")
    program = Path(found)
    # Like "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0...)", and the loader alone.
    libraries = re.findall(r"(/\S+) \(0x", run(["ldd", program]))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for place in [program, *map(Path, libraries)]:
            entry = tarfile.TarInfo(str(place).lstrip("/"))
            entry.size, entry.mode = place.stat().st_size, 0o755
            with place.open("rb") as file:
                archive.addfile(entry, file)
        for folder, owner in folders.items():
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, owner, owner
            archive.addfile(entry)
    return content.getvalue()
