"""How many answers of `/targets` a second, beside others who serve bytes.

kamal-sd is whole, over a simulated engine. Beside it stand raw ASGI and a FastAPI route, which
serve bytes of the same length, and nginx with a file of them. wrk asks one after the other over 16
connections, and the rounds take turns.
"""

import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from tests.benchmarks.rounds import ROUNDS, Rounds, Row, median_ratio, rounds_of
from tests.benchmarks.servers import PLAIN, Ask, answers_a_second, asgi, nginx, raw, route
from tests.benchmarks.simulated import Engines
from tests.lab.sd import Server

# So many containers make an answer of that size.
SIZES: Final = {"10 KB": 32, "1 MB": 3200}
FILTERS: Final = "/targets?role=web&role=job&destination="
GOALS: Final = {
    "10 KB": {"plain": 0.9, "filters": 0.9, "gzip": 0.9, "304": 0.9},
    "1 MB": {"plain": 1.0, "filters": 1.0, "gzip": 3.3, "304": 5.0},
}


def measure(size: str, rounds: int = ROUNDS, seconds: int = 2) -> Rounds:
    """The answers a second of each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-")))
        # nginx reads its file as another user.
        folder.chmod(0o755)
        engines = stack.enter_context(Engines(folder, 1, SIZES[size]))
        server = stack.enter_context(Server(folder / "sd", config=engines.settings_file()))
        answer = server.get("/targets", {"Accept-Encoding": "identity"})
        body, etag = answer.content, answer.headers["ETag"]
        asks = {
            "plain": PLAIN,
            "filters": Ask(FILTERS),
            "gzip": Ask(headers={"Accept-Encoding": "gzip"}),
            "304": Ask(headers={"If-None-Match": etag}),
        }
        others = {
            "raw ASGI": stack.enter_context(asgi(raw, body)),
            "FastAPI route": stack.enter_context(asgi(route, body)),
            "nginx": stack.enter_context(nginx(folder / "nginx", {"targets": body})),
        }
        ways: dict[str, Callable[[], float]] = {
            name: partial(answers_a_second, server.url, ask, seconds) for name, ask in asks.items()
        }
        ways |= {
            name: partial(answers_a_second, url, seconds=seconds) for name, url in others.items()
        }
        return rounds_of(ways, rounds)


def rows(size: str, found: Rounds) -> list[Row]:
    """Each way to ask, and FastAPI and nginx for comparison, against raw ASGI."""
    theirs = found["raw ASGI"]
    goals = GOALS[size]
    return [
        Row(
            f"`GET /targets`, {size}, {name}" if name in goals else f"{name}, {size}",
            f"{statistics.median(ours):,.0f}/s",
            f"{statistics.median(theirs):,.0f}/s, raw ASGI",
            median_ratio(ours, theirs),
            "of raw ASGI",
            goals.get(name),
            at_least=True,
        )
        for name, ours in found.items()
        if name != "raw ASGI"
    ]
