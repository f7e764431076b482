"""The file for Prometheus' file_sd_configs: at any moment it is whole and true, or as it was."""

import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from app import file_sd
from app.engine import ledger
from app.model import Snapshot
from app.state import State
from tests import http_sd_reader
from tests.builders import NOW, container, labels, settings, snapshot, stopped
from tests.lab.process import wait_until

OLD = container("shop-web-v1", ip="172.18.0.5")
NEW = container("shop-web-v2", ago=5, ip="172.18.0.6")
# What has not happened by then does not: a write takes a few milliseconds.
A_WHILE: Final = 0.15


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """In a folder of its own, as Prometheus watches it."""
    folder = tmp_path / "targets"
    folder.mkdir()
    return folder / "kamal-sd.json"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr(file_sd, "_RETRY_SECONDS", 0.01)


def state(*snapshots: Snapshot, **given: Any) -> State:
    """On a clock that goes on from NOW, so that it can be waited for."""
    ahead = NOW - time.time()
    return State(snapshots, settings(**given), clock=lambda: time.time() + ahead)


def wait_for(condition: Callable[[], object], what: str = "it to be written") -> None:
    wait_until(condition, 20, what)


def a_while() -> None:
    threading.Event().wait(A_WHILE)


def addresses(file: Path) -> set[str]:
    """What a reader finds now; it is as strict as Prometheus at least."""
    return {each.address for each in http_sd_reader.read(file.read_bytes())}


def written_at(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_ino, status.st_mtime_ns


# --- what stands in it ---


def test_it_has_what_targets_answers(file: Path) -> None:
    kept = state(snapshot(OLD, stopped("shop-job-v1", 5, labels=labels(role="job"))))
    with file_sd.writing(file, kept):
        wait_for(file.exists)
        assert file.read_bytes() == kept.view.answer({}).body
        assert addresses(file) == {"172.18.0.5:9394", "shop-job.invalid:9394"}
    # It stays, so that Prometheus keeps its targets while kamal-sd is replaced.
    assert addresses(file) == {"172.18.0.5:9394", "shop-job.invalid:9394"}


def test_a_change_is_written(file: Path) -> None:
    kept = state(snapshot(OLD, NEW))
    with file_sd.writing(file, kept):
        wait_for(lambda: file.exists() and addresses(file) == {"172.18.0.5:9394"})
        kept.publish(ledger.died(kept.view.snapshots[0], OLD.id, kept.now()))
        wait_for(lambda: addresses(file) == {"172.18.0.6:9394"})


@pytest.mark.parametrize(
    ("given", "first", "then"),
    [
        pytest.param(
            {"overlap_limit": 5.3}, {"172.18.0.5:9394"}, {"172.18.0.6:9394"}, id="a take-over"
        ),
        pytest.param({"keep_missing": 5.3}, {"shop-web.invalid:9394"}, set(), id="an end"),
    ],
)
def test_what_time_alone_changes_is_written_although_nobody_looks(
    file: Path, given: dict[str, Any], first: set[str], then: set[str]
) -> None:
    shown = [OLD, NEW] if "overlap_limit" in given else [stopped("shop-web-v1", 5)]
    kept = state(snapshot(*shown), **given)
    with file_sd.writing(file, kept):
        wait_for(file.exists)
        assert addresses(file) in (first, then)
        wait_for(lambda: addresses(file) == then)


def test_a_time_that_never_comes_is_no_obstacle(file: Path) -> None:
    # Whoever wants to keep them for ever writes a number as large as this.
    kept = state(snapshot(stopped("shop-web-v1", 5)), keep_missing=1e12, overlap_limit=1e12)
    with file_sd.writing(file, kept):
        wait_for(file.exists)
        kept.publish(snapshot(OLD, NEW))
        wait_for(lambda: addresses(file) == {"172.18.0.5:9394"})


def test_an_engine_without_containers_is_an_empty_list(file: Path) -> None:
    with file_sd.writing(file, state(snapshot())):
        wait_for(file.exists)
        assert file.read_bytes() == b"[]\n"


# --- what is never done ---


def test_nothing_is_written_before_every_engine_was_listed(file: Path) -> None:
    engines = [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]
    kept = state(snapshot(OLD, host="a"), Snapshot("b"), engines=engines)
    file.write_bytes(b'[{"targets": ["before:1"], "labels": {}}]')
    with file_sd.writing(file, kept):
        a_while()
        kept.publish(ledger.lost(Snapshot("b"), "Connection refused", kept.now()))
        kept.publish(snapshot(NEW, host="a"))
        a_while()
        assert addresses(file) == {"before:1"}
        kept.publish(snapshot(OLD, host="b"))
        wait_for(lambda: addresses(file) == {"172.18.0.6:9394", "172.18.0.5:9394"})


def test_one_that_was_never_reached_is_done_without_when_the_grace_is_over(file: Path) -> None:
    engines = [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]
    kept = state(snapshot(OLD, host="a"), Snapshot("b"), engines=engines, startup_grace="300ms")
    begin = kept.now()
    with file_sd.writing(file, kept):
        # Nobody looks at it and nothing is told: it is written when its time has come.
        wait_for(file.exists)
        assert kept.now() - begin >= 0.3
        assert addresses(file) == {"172.18.0.5:9394"}


def test_without_any_list_nothing_is_ever_written(file: Path) -> None:
    engines = [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]
    kept = state(Snapshot("a"), Snapshot("b"), engines=engines, startup_grace="10ms")
    with file_sd.writing(file, kept):
        a_while()
        assert not file.exists()


def test_an_error_never_empties_it(file: Path) -> None:
    kept = state(snapshot(OLD))
    with file_sd.writing(file, kept):
        wait_for(file.exists)
        before = written_at(file)
        for error in ("Connection refused", "timed out"):
            kept.publish(ledger.lost(kept.view.snapshots[0], error, kept.now()))
            a_while()
        assert written_at(file) == before
    assert addresses(file) == {"172.18.0.5:9394"}


def test_content_that_stays_the_same_is_not_written_again(file: Path) -> None:
    kept = state(snapshot(OLD))
    for _ in range(2):
        with file_sd.writing(file, kept):
            wait_for(file.exists)
            before = written_at(file)
            # New decisions, and another candidate: nothing of it is in the targets.
            kept.publish(snapshot(OLD, NEW))
            kept.publish(snapshot(OLD, stopped("shop-web-v0", 50)))
            a_while()
            assert written_at(file) == before


def test_no_reader_ever_finds_half_of_it(file: Path) -> None:
    # From one container to many and back: a file that was written over would be seen so.
    crowd = [
        container(f"s{number}-web-v1", labels=labels(f"s{number}"), ip=f"10.0.0.{number}")
        for number in range(1, 120)
    ]
    kept = state(snapshot(OLD))
    ending = threading.Event()

    def storm() -> None:
        while not ending.is_set():
            kept.publish(snapshot(OLD, *crowd))
            kept.publish(snapshot(OLD))

    thread = threading.Thread(target=storm)
    sizes: set[int] = set()
    with file_sd.writing(file, kept):
        wait_for(file.exists)
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while len(sizes) < 2 or time.monotonic() < deadline - 19:
                sizes.add(len(addresses(file)))
                assert list(file.parent.glob("*.json")) == [file]
                assert time.monotonic() < deadline
        finally:
            ending.set()
            thread.join()
        # And the last word is heard.
        wait_for(lambda: addresses(file) == {"172.18.0.5:9394"})
    assert sizes == {1, 120}


def test_prometheus_may_read_it_and_finds_no_other_file(file: Path) -> None:
    before = os.umask(0o077)
    try:
        with file_sd.writing(file, state(snapshot(OLD))):
            wait_for(file.exists)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [each.name for each in file.parent.iterdir()] == [file.name]


# --- when it cannot be written ---


@pytest.mark.usefixtures("impatient")
def test_a_folder_that_comes_later_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "later" / "kamal-sd.json"
    with file_sd.writing(file, state(snapshot(OLD))):
        wait_for(lambda: caplog.messages)
        a_while()
        said = f"{file}: the targets cannot be written: No such file or directory"
        assert caplog.messages == [said]
        file.parent.mkdir()
        # Nothing changes meanwhile: it is tried again all the same.
        wait_for(file.exists)
        assert addresses(file) == {"172.18.0.5:9394"}


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk without room, for as long as the context lasts."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        yield


@pytest.mark.usefixtures("impatient")
def test_a_full_disk_leaves_it_as_it_was_and_is_told_once_each_time(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = state(snapshot(OLD))
    with file_sd.writing(file, kept):
        wait_for(file.exists)
        for shown in (NEW, OLD):
            before, said = file.read_bytes(), len(caplog.messages)
            with full(monkeypatch):
                kept.publish(snapshot(shown))
                wait_until(partial(is_longer, caplog.records, said), 20, "a word")
                a_while()
                assert file.read_bytes() == before
            wait_until(partial(has, file, kept.view.answer({}).body), 20, "it to be written")
    words = f"{file}: the targets cannot be written: No space left on device"
    assert caplog.messages == [words, words]


def is_longer(records: Sized, than: int) -> bool:
    return len(records) > than


def has(file: Path, content: bytes) -> bool:
    return file.read_bytes() == content


@pytest.mark.usefixtures("impatient")
def test_a_folder_in_its_place_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.mkdir()
    with file_sd.writing(file, state(snapshot(OLD))):
        wait_for(lambda: caplog.messages)
    assert caplog.messages == [f"{file}: the targets cannot be written: Is a directory"]


def test_it_takes_the_place_of_what_is_no_list(file: Path) -> None:
    file.write_bytes(b"\xff{")
    file.with_name(".kamal-sd.json.new").write_text("left by a power cut")
    with file_sd.writing(file, state(snapshot(OLD))):
        wait_for(lambda: file.read_bytes()[:1] == b"[")
    assert json.loads(file.read_bytes())


# --- its end ---


@pytest.mark.parametrize("shown", [snapshot(OLD), Snapshot("")], ids=["listed", "not listed"])
@pytest.mark.parametrize("folder", [".", "missing"])
def test_it_ends_at_once_and_writes_no_more(
    file: Path, shown: Snapshot, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    kept = state(shown)
    place = file.parent / folder / file.name
    with file_sd.writing(place, kept):
        assert "file_sd" in {each.name for each in threading.enumerate()}
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert "file_sd" not in {each.name for each in threading.enumerate()}
    before = place.exists()
    kept.publish(snapshot(NEW))
    a_while()
    assert place.exists() is before
    assert kept._told == []
