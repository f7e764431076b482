"""How soon kamal-sd is ready, and how much memory it has, beside the packages that it stands on.

Beside it: importing the four packages of the frame, and the same stack serving one constant.
"""

import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.benchmarks.rounds import ROUNDS, Row, median_ratio
from tests.benchmarks.simulated import Engines
from tests.lab.process import Process, free_port, run
from tests.lab.sd import Server

CONTAINERS: Final = 200
ASKED: Final = 200
GOAL: Final = 1.15
_IMPORTS: Final = "import docker, fastapi, pydantic_settings, uvicorn\n"
_CONSTANT: Final = (
    _IMPORTS
    + """
import sys
from fastapi.responses import Response
app = fastapi.FastAPI()

@app.get("/targets")
async def targets() -> Response:
    return Response(b"[]\\n", media_type="application/json")

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""
)


def imported() -> float:
    """The seconds that importing the packages takes, in an interpreter of its own."""
    begun = time.monotonic()
    run([sys.executable, "-c", _IMPORTS])
    return time.monotonic() - begun


def constant(folder: Path) -> tuple[float, float]:
    """The seconds until the stack answers with a constant, and then its memory in MB."""
    port, script = free_port(), folder / "constant.py"
    script.write_text(_CONSTANT)
    begun = time.monotonic()
    process = Process("constant", [sys.executable, script, str(port)], log=folder / "constant.log")
    with _ended(process.stop):
        return _answers(port, "/targets") - begun, _memory(process.pid, port)


def ours(folder: Path, engines: Engines) -> tuple[float, float]:
    """The seconds until kamal-sd serves 200 containers, and then its memory in MB."""
    port = free_port()
    config = engines.settings_file()
    begun = time.monotonic()
    server = Server(folder, config=config, port=port, wait=False)
    with _ended(server.stop):
        return _answers(port, "/-/ready") - begun, _memory(server.pid, port)


def measure(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """All rounds, in seconds and MB."""
    names = ("import", "constant", "constant's memory", "ready", "memory")
    found: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-")))
        engines = stack.enter_context(Engines(folder, 1, CONTAINERS))
        for number in range(rounds):
            values = (imported(), *constant(folder), *ours(folder / str(number), engines))
            for name, value in zip(names, values, strict=True):
                found[name].append(value)
    return found


def rows(found: dict[str, list[float]]) -> list[Row]:
    """Ready against the constant's first answer, memory against its memory."""
    median = {name: statistics.median(values) for name, values in found.items()}
    return [
        Row(
            "ready after the start, 200 containers",
            f"{median['ready']:.2f} s",
            f"{median['constant']:.2f} s, the stack with a constant "
            f"(its imports alone {median['import']:.2f} s)",
            median_ratio(found["ready"], found["constant"]),
            "times",
            GOAL,
        ),
        Row(
            "memory (RSS), 200 containers",
            f"{median['memory']:.1f} MB",
            f"{median[f'constant{chr(39)}s memory']:.1f} MB, the stack with a constant",
            median_ratio(found["memory"], found["constant's memory"]),
            "times",
            GOAL,
        ),
    ]


def _answers(port: int, path: str) -> float:
    """When it first answers with 200, on the monotonic clock."""
    while True:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            if status == http.HTTPStatus.OK:
                return time.monotonic()
        time.sleep(0.002)


def _memory(pid: int, port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(ASKED):
        connection.request("GET", "/targets")
        connection.getresponse().read()
    connection.close()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (each for each in lines if each.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@contextmanager
def _ended(stop: Callable[[], object]) -> Iterator[None]:
    try:
        yield
    finally:
        stop()
