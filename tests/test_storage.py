import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.model import Container, Health, Network, Port, Snapshot, State
from app.storage import Storage, StorageError
from tests.builders import NOW, URL, container, reads, snapshot, stopped

NOBODY = 65_534


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "yet"


def saved(directory: Path, *shown: Container, **given: Any) -> Snapshot:
    """A snapshot of that engine, on disk."""
    of_engine = snapshot(*shown, **given)
    Storage(directory, reads()).save(of_engine, URL)
    return of_engine


def loaded(directory: Path, host: str = "", url: str = URL, *patterns: str) -> Snapshot:
    return Storage(directory, reads(*patterns)).load(host, url)


def the_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_what_was_saved_is_loaded(directory: Path) -> None:
    whole = Container(
        id="c0ffee",
        name="größe ✓",
        image="shop:v1",
        state=State.PAUSED,
        since=NOW - 0.25,
        since_error=1e9,
        created=NOW - 9,
        health=Health.UNHEALTHY,
        labels={"service": "shop", "role": "web", "destination": ""},
        network_mode="kamal",
        networks=(Network("kamal", "172.18.0.5", "fd00::5", aliases=("shop",)), Network("b")),
        ports=(Port(9394, "tcp", 49153, "0.0.0.0"), Port(80, "tcp")),
        fault="",
    )
    broken = Container("entry 3", fault="it has no Id")
    before = saved(
        directory, whole, broken, stopped("b", 5), host="h", incumbents=frozenset({"c0ffee"})
    )
    after = loaded(directory, "h")
    assert after.containers == before.containers
    assert after.incumbents == before.incumbents
    assert after.listed_at == NOW
    assert all(isinstance(each.state, State) for each in after.containers.values())
    assert isinstance(after.containers["c0ffee"].networks[0], Network)


def test_what_is_loaded_is_as_old_as_it_is_and_not_heard(directory: Path) -> None:
    saved(directory, container(), events=5, reconnects=2)
    after = loaded(directory)
    assert not after.up
    assert (after.listed_at, after.lost_at) == (NOW, NOW)
    assert after.as_of(NOW + 9999) == NOW
    assert after.error == "not reached since kamal-sd started"
    assert (after.events, after.reconnects) == (0, 0)


def test_without_a_file_there_is_nothing(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert loaded(directory, "h") == Snapshot("h")
    assert not caplog.records


def test_nothing_is_saved_before_the_first_list(directory: Path) -> None:
    saved(directory, container(), listed_at=None)
    assert not list(directory.iterdir())


def test_each_host_has_a_file_of_its_own_inside_the_folder(directory: Path) -> None:
    hosts = ["", "a", "a/b", "../../up", "a.b", "a.c", "größe", ".", "..", "%2F"]
    for index, host in enumerate(hosts):
        saved(directory, container(f"c{index}"), host=host)
    assert len(list(directory.iterdir())) == len(hosts)
    for index, host in enumerate(hosts):
        assert [each.name for each in loaded(directory, host).containers.values()] == [f"c{index}"]


def test_a_snapshot_of_another_engine_is_not_used(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    saved(directory, container())
    assert loaded(directory, url="tcp://other:2375") == Snapshot("")
    assert f"is of the engine at {URL}, and is not used" in caplog.text
    assert the_file(directory).suffix == ".json"


def test_a_label_that_is_no_longer_allowed_is_not_taken_back(directory: Path) -> None:
    saved(directory, container(labels={"service": "shop", "team": "a", "env": "b"}))
    (shown,) = loaded(directory, "", URL, "env").containers.values()
    assert shown.labels == {"service": "shop", "env": "b"}


def test_nothing_is_left_beside_the_file(directory: Path) -> None:
    saved(directory, container())
    assert the_file(directory).name == "engine.json"
    assert directory.stat().st_mode & 0o777 == 0o700


def test_what_is_on_disk_already_is_not_written_again(directory: Path) -> None:
    storage, shown = Storage(directory, reads()), snapshot(container())
    storage.save(shown, URL)
    the_file(directory).unlink()
    storage.save(replace(shown, events=99, containers=dict(shown.containers)), URL)
    assert not list(directory.iterdir())
    storage.save(replace(shown, listed_at=NOW + 60), URL)
    assert loaded(directory).listed_at == NOW + 60


def whole_file() -> dict[str, Any]:
    return {
        "format": 1,
        "url": URL,
        "listed_at": NOW,
        "incumbents": [],
        "containers": [{"id": "a"}],
    }


def damaged(**given: object) -> bytes:
    return json.dumps(whole_file() | given).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "EOF", id="empty"),
        pytest.param(b"\x00" * 4096, "Invalid JSON", id="zeros, as after a power cut"),
        pytest.param(damaged()[:-20], "Invalid JSON", id="cut off"),
        pytest.param(b"\xff\xfe", "Invalid JSON", id="not UTF-8"),
        pytest.param(b"[]", "", id="another shape"),
        pytest.param(damaged(format=2), "format", id="a later format"),
        pytest.param(damaged(listed_at="x"), "listed_at", id="a wrong type"),
        pytest.param(damaged(containers=[{"id": 5}]), "containers.0.id", id="a wrong id"),
        pytest.param(
            damaged(containers=[{"id": "a", "state": "zombie"}]), "containers.0.state", id="a state"
        ),
        pytest.param(
            damaged(containers=[{"id": "a", "labels": {"x": 5}}]),
            "containers.0.labels",
            id="labels",
        ),
    ],
)
def test_a_damaged_file_is_set_aside_and_said(
    directory: Path, content: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory.mkdir(parents=True)
    path = directory / "h.json"
    path.write_bytes(content)
    assert loaded(directory, "h") == Snapshot("h")
    assert the_file(directory).name == "h.damaged"
    assert the_file(directory).read_bytes() == content
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: is damaged, set aside as h.damaged: " in record.message
    assert words in record.message


def test_the_smallest_whole_file_is_not_damaged(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "h.json").write_bytes(damaged())
    assert list(loaded(directory, "h").containers) == ["a"]


def test_the_log_does_not_show_what_a_damaged_file_holds(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory.mkdir(parents=True)
    (directory / "h.json").write_bytes(damaged(listed_at="hunter2"))
    loaded(directory, "h")
    assert "hunter2" not in caplog.text


def test_a_damaged_file_that_cannot_be_set_aside_is_said(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "h.damaged" / "full").mkdir(parents=True)
    (directory / "h.json").write_bytes(b"")
    assert loaded(directory, "h") == Snapshot("h")
    assert "is damaged" in caplog.text


def test_a_file_that_cannot_be_read_is_said(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "h.json").mkdir(parents=True)
    assert loaded(directory, "h") == Snapshot("h")
    (record,) = caplog.records
    assert record.message.endswith("h.json: the snapshot cannot be read: Is a directory")


def test_a_disk_error_is_logged_once_and_costs_nothing(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage, shown = Storage(directory, reads()), snapshot(container())
    shutil.rmtree(directory)
    storage.save(shown, URL)
    storage.save(shown, URL)
    (record,) = caplog.records
    assert record.message.endswith("the snapshot cannot be written: No such file or directory")
    directory.mkdir()
    storage.save(shown, URL)
    assert loaded(directory).containers == shown.containers
    shutil.rmtree(directory)
    storage.save(replace(shown, listed_at=NOW + 1), URL)
    assert len(caplog.records) == 2


def test_each_file_that_cannot_be_written_is_said_once(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage, shown = Storage(directory, reads()), snapshot(container())
    (directory / "engine.json").mkdir()
    for _ in range(3):
        storage.save(shown, URL)
        # That another file can be is no news about this one.
        storage.save_history([])
    (record,) = caplog.records
    assert record.message.endswith("engine.json: the snapshot cannot be written: Is a directory")
    assert {each.name for each in directory.iterdir()} == {"engine.json", "history@.json"}


def test_two_that_write_into_one_folder_leave_whole_files_alone(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = [snapshot(*(container(f"shop-web-v{each}") for each in range(n))) for n in (1, 400)]
    stores = [Storage(directory, reads()) for _ in shown]
    stores[0].save(shown[0], URL)

    def write(number: int) -> None:
        for at in range(40):
            stores[number].save(replace(shown[number], listed_at=NOW + at), URL)

    writers = [threading.Thread(target=write, args=[number]) for number in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert len(loaded(directory).containers) in {1, 400}
    for writer in writers:
        writer.join()
    assert caplog.text == ""
    assert the_file(directory).name == "engine.json"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/below: cannot be made: Not a directory"):
        Storage(tmp_path / "file" / "below", reads())
    with pytest.raises(StorageError, match=r"file: cannot be made: File exists"):
        Storage(tmp_path / "file", reads())


@contextmanager
def _without_privileges() -> Iterator[None]:
    """Root may write anywhere; for a while, this process is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("mode", [0o555, 0o333, 0o666, 0o000])
def test_a_folder_that_cannot_be_used_is_an_error(mode: int) -> None:
    # Not under tmp_path, which is root's alone.
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        directory = Path(parent) / "data"
        directory.mkdir()
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
        directory.chmod(mode)
        with _without_privileges(), pytest.raises(StorageError, match="cannot be written to"):
            Storage(directory, reads())
        directory.chmod(0o700)
        with _without_privileges():
            Storage(directory, reads())


def test_a_file_of_before_aliases_were_known_is_still_read(directory: Path) -> None:
    saved(directory, container())
    file = json.loads(the_file(directory).read_text())
    for each in file["containers"]:
        each["networks"] = [network[:3] for network in each["networks"]]
    the_file(directory).write_text(json.dumps(file))
    (found,) = loaded(directory).containers.values()
    assert found.networks == (Network("kamal", "172.18.0.5"),)
