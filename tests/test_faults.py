"""Fault after fault: a real engine, kamal-sd as users run it, and what Prometheus saw of it.

docs/faults.md tells users the same; its rows are these faults.
"""

import re
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest

from app.web.targets import AGE_HEADER
from tests.endurance import JOBS, ROLES, Answer, Asker, Bystander, Rig, Way, rig, served
from tests.engine.town import wait_for
from tests.lab.place import Mounted
from tests.lab.sd import REPOSITORY, Server
from tests.lab.world import World

pytestmark = pytest.mark.real

HOLD_SECONDS: Final = 1.0
# What a try may take on a busy machine, beside the wait before it.
_TRY_SECONDS: Final = 2.0
UNWRITTEN: Final = "the snapshot cannot be written"
_DISK_BYTES: Final = 64 * 1024
_CLOCK: Final = """
import mmap, os, struct, time

with open(os.environ["CLOCK"], "rb") as file:
    offset = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
true = time.time
time.time = lambda: true() + struct.unpack("d", offset)[0]
"""


class Fault(NamedTuple):
    """What goes wrong while `inject` is entered, and what is to be seen of it."""

    name: str
    inject: Callable[[Rig], AbstractContextManager[None]]
    way: Callable[[Rig], Way]
    # What /explain says of the engine meanwhile; empty where it goes on being heard.
    error: str = ""
    # What the log says meanwhile, once.
    logged: str = ""
    # Whether a container is replaced meanwhile.
    replaces: bool = True
    # Whether kamal-sd answers all the while, whether it tells nothing but what was known before and
    # what is true afterwards, and whether the apps live and can be reached through it.
    answers: bool = True
    exact: bool = True
    apps_live: bool = True
    relays: bool = True

    def __str__(self) -> str:
        return self.name


Inject = Callable[[Rig], Iterator[None]]
FAULTS: Final[list[Fault]] = []


def fault(name: str, way: Callable[[Rig], Way], **expected: Any) -> Callable[[Inject], Inject]:
    """Adds to the matrix what the function does until its `yield`, and mends after it."""

    def add(inject: Inject) -> Inject:
        @contextmanager
        def injected(bench: Rig) -> Iterator[None]:
            steps = inject(bench)
            next(steps)
            try:
                yield
            finally:
                # Mended in any case, for the sake of the next one.
                next(steps, None)

        FAULTS.append(Fault(name, injected, way, **expected))
        return inject

    return add


# --- how kamal-sd runs ---


def at_the_engine(bench: Rig) -> Way:
    return Way(bench.engine.url)


def behind_a_proxy(bench: Rig) -> Way:
    return Way(bench.forwarder.url)


def with_a_clock(bench: Rig) -> Way:
    """Its time of day is as far from the true one as a file says. What passes, passes as ever."""
    folder = bench.directory / "clock"
    folder.mkdir(exist_ok=True)
    # Python runs it before anything else.
    (folder / "sitecustomize.py").write_text(_CLOCK)
    set_clock(bench, 0)
    path = f"{folder}:{REPOSITORY}"
    return Way(bench.forwarder.url, (("PYTHONPATH", path), ("CLOCK", str(folder / "offset"))))


def set_clock(bench: Rig, seconds: float) -> None:
    offset = bench.directory / "clock" / "offset"
    offset.touch()
    with offset.open("r+b") as file:
        file.write(struct.pack("d", seconds))


def with_the_folder(bench: Rig) -> Way:
    """The engine's folder is mounted, as `--volume /run/docker:/engine` does it."""
    place = bench.directory / "engine"
    place.mkdir(exist_ok=True)
    mounts = Mounted(f"mount --bind {bench.engine.socket.parent} {place}")
    return Way(f"unix://{place}/{bench.engine.socket.name}", place=mounts)


def with_the_file(bench: Rig) -> Way:
    """The socket alone is mounted, as `--volume /run/docker.sock:/engine.sock` does it."""
    place = bench.directory / "engine.sock"
    place.touch()
    return Way(f"unix://{place}", place=Mounted(f"mount --bind {bench.engine.socket} {place}"))


def with_a_small_disk(bench: Rig) -> Way:
    size = f"size={_DISK_BYTES}"
    return Way(bench.engine.url, place=Mounted(f"mount -t tmpfs -o {size} tmpfs {bench.data}"))


# --- the engine ---


@fault("engine killed", at_the_engine, error="Connection refused|stream ended", replaces=False)
def engine_killed(bench: Rig) -> Iterator[None]:
    bench.engine.kill()
    yield
    bench.engine.start()


@fault("engine frozen (SIGSTOP)", at_the_engine, error="timed out", replaces=False)
def engine_frozen(bench: Rig) -> Iterator[None]:
    bench.engine.pause()
    yield
    bench.engine.resume()


@fault("engine restarted, live-restore", at_the_engine, error="No such file|ended", replaces=False)
def engine_restarted(bench: Rig) -> Iterator[None]:
    bench.engine.stop()
    yield
    bench.engine.start()


@fault(
    "engine restarted, no live-restore",
    at_the_engine,
    error="No such file|ended",
    replaces=False,
    exact=False,
    apps_live=False,
)
def engine_restarted_with_all(bench: Rig) -> Iterator[None]:
    bench.engine.set_live_restore(False)
    bench.engine.stop()
    yield
    bench.engine.start()
    bench.engine.set_live_restore(True)


@fault(
    "engine absent at the start", at_the_engine, error="No such file", replaces=False, answers=False
)
def engine_absent_at_the_start(bench: Rig) -> Iterator[None]:
    bench.engine.stop()
    assert bench.server.stop() == 0
    (bench.data / "one.json").unlink()
    bench.start()
    yield
    answer = bench.get("/targets")
    assert answer.status_code == 503
    assert answer.text.startswith("no list of containers yet: one: ")
    assert bench.get("/-/ready").status_code == 503
    bench.engine.start()


@fault(
    "engine absent at a restart of kamal-sd",
    at_the_engine,
    error="No such",
    replaces=False,
    answers=False,
)
def engine_absent_at_a_restart(bench: Rig) -> Iterator[None]:
    before = bench.get("/targets").content
    bench.engine.stop()
    bench.restart()
    yield
    assert bench.get("/targets").content == before
    assert bench.get("/-/ready").status_code == 200
    bench.engine.start()


@fault(
    "socket replaced, its folder mounted", with_the_folder, error="No such|ended", replaces=False
)
def socket_replaced_in_its_folder(bench: Rig) -> Iterator[None]:
    bench.engine.stop()
    yield
    bench.engine.start()


@fault(
    "socket replaced, mounted alone",
    with_the_file,
    error="restart kamal-sd, and mount the socket's folder instead of the file",
    replaces=False,
    answers=False,
)
def socket_replaced_alone(bench: Rig) -> Iterator[None]:
    bench.engine.stop()
    bench.engine.start()
    yield
    # It would not heal, however long one waits: its address leads to nobody any more.
    bench.restart()


# --- the way to the engine ---


@fault("connection reset", behind_a_proxy, error="Connection reset by peer")
def reset(bench: Rig) -> Iterator[None]:
    with bench.forwarder.resetting():
        yield


@fault("stream cut in the middle of a chunk", behind_a_proxy)
def cut_in_a_chunk(bench: Rig) -> Iterator[None]:
    lost = bench.engine_document()["reconnects"]
    with bench.forwarder.breaking_chunks():
        yield
    assert bench.engine_document()["reconnects"] > lost


@fault("stream gone silent", behind_a_proxy)
def silent_stream(bench: Rig) -> Iterator[None]:
    with bench.forwarder.silent("/events"):
        yield


@fault("403 from a proxy", behind_a_proxy, error="it answered 403 Forbidden")
def forbidden(bench: Rig) -> Iterator[None]:
    with bench.forwarder.answering("/", answer("403 Forbidden", b"no")):
        bench.forwarder.cut()
        yield


@fault("500 from a proxy", behind_a_proxy, error="it answered 500 Internal Server Error")
def broken_proxy(bench: Rig) -> Iterator[None]:
    with bench.forwarder.answering("/", answer("500 Internal Server Error", b"{}")):
        bench.forwarder.cut()
        yield


@fault("bad JSON", behind_a_proxy, error="its answer is no JSON")
def bad_json(bench: Rig) -> Iterator[None]:
    with bench.forwarder.answering("/containers/json", answer("200 OK", b'[{"Id": "0123')):
        yield


@fault("list suddenly empty", behind_a_proxy, replaces=False)
def empty_list(bench: Rig) -> Iterator[None]:
    with bench.forwarder.answering("/containers/json", answer("200 OK", b"[]")):
        yield


def answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


@fault("silent for an hour", with_a_clock, error="timed out")
def silent_for_an_hour(bench: Rig) -> Iterator[None]:
    with bench.forwarder.silent():
        wait_for(lambda: said(bench), "the silence to be told")
        set_clock(bench, 3600)
        wait_for(lambda: bench.engine_document()["list_age"] > 3600, "an hour to pass")
        yield
    set_clock(bench, 0)


@fault("clock ahead by an hour", with_a_clock)
def clock_ahead(bench: Rig) -> Iterator[None]:
    set_clock(bench, 3600)
    yield
    set_clock(bench, 0)


@fault("clock back by an hour", with_a_clock)
def clock_back(bench: Rig) -> Iterator[None]:
    set_clock(bench, -3600)
    yield
    set_clock(bench, 0)


# --- kamal-sd's own ---


@fault(
    "disk full",
    with_a_small_disk,
    logged=f"one.json: {UNWRITTEN}: No space left on device",
)
def disk_full(bench: Rig) -> Iterator[None]:
    whole = bench.stored()
    filler = on_its_disk(bench, "filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    yield
    # What was there is whole, and of before.
    assert bench.stored() == whole
    filler.unlink()
    wait_for(lambda: bench.stored() == bench.truth(), "the truth to be on disk")


@fault(
    "disk read-only",
    with_a_small_disk,
    logged=f"one.json: {UNWRITTEN}: Read-only file system",
)
def disk_read_only(bench: Rig) -> Iterator[None]:
    bench.server_place("mount", "-o", "remount,ro", str(bench.data))
    yield
    bench.server_place("mount", "-o", "remount,rw", str(bench.data))
    wait_for(lambda: bench.stored() == bench.truth(), "the truth to be on disk")


def on_its_disk(bench: Rig, name: str) -> Path:
    return Path(f"/proc/{bench.server.pid}/root{bench.data}/{name}")


@fault(
    "snapshot damaged", at_the_engine, logged="is damaged, set aside as one.damaged", answers=False
)
def snapshot_damaged(bench: Rig) -> Iterator[None]:
    assert bench.server.stop() == 0
    file = bench.data / "one.json"
    file.write_bytes(file.read_bytes()[:-20])
    bench.start()
    yield


@fault(
    "descriptors exhausted",
    behind_a_proxy,
    logged="no descriptor is left, and new clients are hung up on",
    relays=False,
)
def no_descriptors(bench: Rig) -> Iterator[None]:
    pid = bench.server.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 3, before[1]))
    place = urlsplit(bench.server.url)
    with ExitStack() as clients:
        for _ in range(20):
            client = socket.create_connection((place.hostname, place.port), timeout=5)
            clients.enter_context(client)
        time.sleep(0.2)
        bench.forwarder.cut()
        yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@fault(
    "SIGTERM in the middle of a scrape", at_the_engine, replaces=False, answers=False, exact=False
)
def sigterm_in_a_scrape(bench: Rig) -> Iterator[None]:
    (job,) = bench.engine.containers("label=role=job")
    (path,) = [
        group["labels"]["__metrics_path__"]
        for group in bench.get("/targets").json()
        if group["labels"]["role"] == "job"
    ]
    bench.engine.docker("pause", job)
    with ThreadPoolExecutor() as threads:
        scrape = threads.submit(bench.get, path)
        time.sleep(0.3)
        bench.server.signal(signal.SIGTERM)
        time.sleep(0.3)
        bench.engine.docker("unpause", job)
        assert scrape.result().status_code == 200, scrape.result().text
        assert "shop_requests_total" in scrape.result().text
    bench.restart()
    yield


@fault("two kamal-sd's in one folder", at_the_engine)
def two_in_a_folder(bench: Rig) -> Iterator[None]:
    env = {
        "KAMAL_SD_DATA_DIR": str(bench.data),
        "KAMAL_SD_RESYNC_INTERVAL": "1s",
        "KAMAL_SD_ENGINES": f'[{{"url": "{bench.engine.url}", "host": "one"}}]',
    }
    with Server(bench.directory / "second", env=env) as second:
        yield
        wait_for(lambda: served(second.get("/targets").content) == bench.truth(), "both to be true")
        for _ in range(200):
            # Whole at every moment, whoever wrote it.
            assert set(bench.stored()) == set(ROLES)
    wait_for(lambda: bench.stored() == bench.truth(), "the truth to be on disk")


# --- what is asked for in all of them ---


@pytest.fixture(scope="module")
def bench(world: World) -> Iterator[Rig]:
    with rig(world) as made:
        yield made


@pytest.fixture(scope="module")
def bystander(bench: Rig) -> Iterator[Bystander]:
    with Bystander(bench.prometheus) as looking:
        yield looking
        # Prometheus takes a change of targets every five seconds at the most.
        time.sleep(5)
        assert looking.fewer == []


@pytest.mark.parametrize("each", FAULTS, ids=str)
def test_a_fault_costs_no_target(each: Fault, bench: Rig, bystander: Bystander) -> None:
    bench.run_in(each.way(bench))
    pid, level, series = bench.server.pid, bench.level(), bench.series()
    before, mark = bench.get("/targets").content, bench.mark()
    began_at, began = time.time(), time.monotonic()
    with Asker(bench.server.url) as asker:
        with each.inject(bench):
            if each.error:
                wait_for(lambda: re.search(each.error, said(bench)), f"{each.error} to be told")
            told = time.monotonic()
            if each.replaces:
                bench.replace("job")
            time.sleep(max(0.0, told + HOLD_SECONDS - time.monotonic()))
            if each.error:
                assert_told(bench, each.error)
            held = time.monotonic()
        healed = time.monotonic()
        wait_for(bench.is_true, "the truth")
        recovered = bench.well_since = time.monotonic()
        after = bench.get("/targets").content
    print(
        f"{each}: told {told - began:.1f}, held {healed - told:.1f}, well {recovered - healed:.1f}"
    )
    assert recovered - healed <= step(healed - began) + _TRY_SECONDS
    assert_answers(asker, each, {before, after})
    if each.error and each.answers:
        during = [answer for answer in asker.answers if told < answer.at < held]
        assert_age_is_true(during)
        if each.exact:
            assert {answer.body for answer in during} == {before}
    if each.logged:
        assert len(re.findall(each.logged, bench.log_since(mark))) == 1
    # An app that lives is scraped all the while, if need be by Prometheus alone.
    asked = {"relay": each.answers and each.relays and each.apps_live, "ip": each.apps_live}
    missed = {job: bench.missed(job, "web", began_at) for job in JOBS if asked[job]}
    assert not any(missed.values()), missed
    assert bench.series() == series
    assert bystander.fewer == []
    if bench.server.pid == pid:
        bench.assert_level(level)


def said(bench: Rig) -> str:
    error: str = bench.engine_document()["error"]
    return error


def assert_told(bench: Rig, error: str) -> None:
    """It is told wherever one may look, and what is known is not taken for less."""
    document = bench.engine_document()
    assert document["up"] is False
    assert re.search(error, document["error"])
    assert 'kamal_sd_engine_up{host="one"} 0.0\n' in bench.get("/metrics").text
    answer = bench.get("/targets")
    known = f"; {len(ROLES)} containers, listed " if answer.is_success else ""
    down = "DOWN," if answer.is_success else "not listed yet."
    table = bench.server.get("/explain", {"Accept": "text/plain"}).text
    assert table.startswith(f"engine one: {down} {document['error']}{known}"), table
    if answer.is_success:
        age = float(answer.headers[AGE_HEADER])
        assert document["list_age"] == pytest.approx(age, abs=1)
        unchanged = bench.server.get("/targets", {"If-None-Match": answer.headers["etag"]})
        assert unchanged.status_code == 304


def step(fault_lasted: float) -> float:
    """The longest wait between two tries after a loss that has lasted so long, in seconds.

    It doubles from 0.5 s on, and is half as long by chance: the waits before one of d s sum up to
    at least (d - 0.5) / 2.
    """
    return min(30.0, 2 * fault_lasted + 0.5)


def assert_answers(asker: Asker, each: Fault, right: set[bytes]) -> None:
    """All were whole, and all were answers but where kamal-sd itself was away or knew nothing."""
    good = [answer for answer in asker.answers if answer.status == 200]
    assert good
    if each.answers:
        assert asker.unheard == 0
        assert len(good) == len(asker.answers)
        assert {answer.ready for answer in good} == {200}
    assert {answer.status for answer in asker.answers} <= {200, 503}
    bodies = asker.bodies()
    assert {frozenset(served(body)) for body in bodies} == {frozenset(ROLES)}
    if each.exact:
        assert bodies <= right


def assert_age_is_true(answers: list[Answer]) -> None:
    """The list grows older as time goes by."""
    first, last = answers[0], answers[-1]
    assert last.age - first.age == pytest.approx(last.at - first.at, abs=0.3)
