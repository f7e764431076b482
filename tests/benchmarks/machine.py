"""What the numbers were measured on."""

import os
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path

from tests.lab.engine import Docker


def description(docker: Docker | None = None, **programs: str) -> Mapping[str, str]:
    """Return what is worth knowing about the machine and versions of programs, by what it is."""
    if docker:
        engine = docker.docker("version", "--format", "{{.Server.Version}}").strip()
        programs = {"Docker Engine": engine, **programs}
    return {
        "measured on": time.strftime("%Y-%m-%d"),
        "CPU": f"{os.cpu_count()} x {_cpu()}",
        "kernel": f"{platform.system()} {platform.release()}",
        **programs,
        "Python": platform.python_version(),
    }


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()
