"""What happened is told after a restart, too."""

import logging
from pathlib import Path

import pytest

from app.discovery.history import Change, Entry
from app.engine.client import EngineError
from app.model import Slot
from app.state import State
from app.storage import Storage
from tests.builders import NOW, reads
from tests.engine.fake import FakeEngine, entry
from tests.test_server import current, fake_settings, wait_for, watch

ENTRIES = [
    Entry(NOW - 9.25, "a", Slot("a", "größe", "web"), Change.TOOK_OVER, "v2", "it took over", 4.5),
    Entry(NOW, "", None, Change.ENGINE_LOST, detail="refused"),
]


def told(state: State) -> list[tuple[str, Change]]:
    """What happened to the slots, in short."""
    return [(each.slot.name, each.change) for each in state.view.history if each.slot]


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    storage = Storage(tmp_path, reads())
    assert storage.load_history() == []
    storage.save_history(ENTRIES)
    assert Storage(tmp_path, reads()).load_history() == ENTRIES
    storage.save_history([])
    assert storage.load_history() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b'[{"at": 1',
        b"{}",
        b'[["now", "", null, "up", "", "", null]]',
        b'[[1, "", null, "no such change", "", "", null]]',
        b'[[1, "", "shop-web", "up", "", "", null]]',
        b'[[1, "", ""]]',
    ],
)
def test_a_damaged_file_is_set_aside_and_said(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history@.json"
    path.write_bytes(content)
    assert Storage(tmp_path, reads()).load_history() == []
    assert [each.name for each in tmp_path.iterdir()] == ["history@.damaged"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: is damaged, set aside as history@.damaged: " in record.message
    assert "\n" not in record.message


def test_a_file_that_cannot_be_read_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "history@.json").mkdir()
    assert Storage(tmp_path, reads()).load_history() == []
    (message,) = caplog.messages
    assert message.endswith("history@.json: the history cannot be read: Is a directory")


def test_it_survives_a_restart_and_goes_on(tmp_path: Path) -> None:
    engine = FakeEngine(entry("shop"))
    settings = fake_settings(tmp_path)
    with watch(settings, engine) as state:
        wait_for(lambda: current(state) == {"shop-web": "shop"})
        engine.start("blog")
        # What happens last is not lost.
        wait_for(lambda: len(current(state)) == 2)
    assert told(state) == [("shop-web", Change.APPEARED), ("blog-web", Change.APPEARED)]
    # What happened meanwhile is found out with the first list.
    del engine.true["blog"]
    with watch(settings, engine) as state:
        wait_for(lambda: len(current(state)) == 1)
    expected = [
        ("shop-web", Change.APPEARED),
        ("blog-web", Change.APPEARED),
        ("blog-web", Change.GONE),
    ]
    assert told(state) == expected
    engine.refusal = EngineError("away")
    with watch(settings, engine) as state:
        assert told(state) == expected


def test_nothing_is_made_up_by_a_restart(tmp_path: Path) -> None:
    engine = FakeEngine(entry("shop"))
    settings = fake_settings(tmp_path)
    for _ in range(3):
        with watch(settings, engine) as state:
            wait_for(lambda state=state: state.view.snapshots[0].up)
            assert told(state) == [("shop-web", Change.APPEARED)]
