"""kamal-proxy's state file: what is read of it, and that nothing it can hold does harm."""

import json
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from app.engine.proxy_state import Active, following, parse
from tests.engine.opened import noting_what_is_opened
from tests.lab.process import wait_until

OLD, NEW = "0a1b2c3d4e5f", "f5e4d3c2b1a0"
PERIOD: Final = 0.01
# Long enough for many looks: what has not happened by then does not.
MANY_LOOKS: Final = 0.15


def service(name: str, *targets: str, **more: Any) -> dict[str, Any]:
    """A service as kamal-proxy 0.9.2 writes it, with what is of no concern here."""
    return {
        "name": name,
        "active_targets": list(targets),
        "rollout_targets": [],
        "options": {"hosts": ["shop.example"], "tls_enabled": True},
        "rollout_controller": None,
        "pause_controller": {"state": 0},
        **more,
    }


def written(*services: dict[str, Any]) -> bytes:
    return json.dumps(services).encode()


WITH_OLD: Final = written(service("shop-web", f"{OLD}:80"))
WITH_NEW: Final = written(service("shop-web", f"{NEW}:80"))
BOTH: Final = written(service("shop-web", f"{OLD}:80"), service("blog-web", f"{NEW}:3000"))


# --- what is read ---


@pytest.mark.parametrize(
    ("services", "active"),
    [
        pytest.param([], {}, id="no service"),
        pytest.param([service("shop-web", f"{OLD}:80")], {"shop-web": {OLD}}, id="0.9"),
        pytest.param(
            [{"name": "shop-web", "active_target": f"{OLD}:80"}], {"shop-web": {OLD}}, id="0.8.7"
        ),
        pytest.param(
            [service("shop-web", f"{NEW}:80", active_target=f"{OLD}:80")],
            {"shop-web": {NEW}},
            id="both keys: the newer spelling",
        ),
        pytest.param(
            [service("shop-web", f"{OLD}:80", f"{NEW}:80")],
            {"shop-web": {OLD, NEW}},
            id="several targets",
        ),
        pytest.param(
            [service("shop-web", f"{OLD}:80"), service("shop-web-staging", f"{NEW}:80")],
            {"shop-web": {OLD}, "shop-web-staging": {NEW}},
            id="several services",
        ),
        pytest.param([service("shop-web", OLD)], {"shop-web": {OLD}}, id="without a port"),
        pytest.param([service("shop-web")], {"shop-web": set()}, id="not deployed"),
        pytest.param([service("shop-web", active_targets=None)], {"shop-web": set()}, id="null"),
        pytest.param([{"name": "shop-web"}], {"shop-web": set()}, id="neither key"),
        pytest.param([service("shop-web", "", ":80")], {"shop-web": set()}, id="no id"),
        pytest.param(
            [service("shop-web", active_targets=[5, None, f"{OLD}:80"])],
            {"shop-web": {OLD}},
            id="something else among them",
        ),
        pytest.param([service("", f"{OLD}:80")], {"": {OLD}}, id="an empty name"),
    ],
)
def test_the_ids_of_each_service(services: list[dict[str, Any]], active: dict[str, Any]) -> None:
    assert parse(written(*services)) == active


GARBAGE: Final = {
    "nothing": b"",
    "no JSON": b"kamal",
    "a map": b'{"shop-web": "x"}',
    "a text": b'"shop-web"',
    "null": b"null",
    "a list of texts": b'["shop-web"]',
    "no name": b'[{"active_targets": ["x:80"]}]',
    "a number for a name": b'[{"name": 5}]',
    "a text for targets": b'[{"name": "shop-web", "active_targets": "x:80"}]',
    "a map for targets": b'[{"name": "shop-web", "active_targets": {"x:80": 1}}]',
    "not UTF-8": b'[{"name": "\xff"}]',
    "zeros": bytes(4096),
    "too large a number": b"[" + b"9" * 5000 + b"]",
    "two documents": WITH_OLD * 2,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_state_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(content)


@pytest.mark.parametrize("content", [BOTH, json.dumps(json.loads(BOTH), indent=2).encode()])
def test_no_part_of_a_state_is_taken_for_the_whole(content: bytes) -> None:
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"."):
            parse(content[:length])


# --- how it is followed ---


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where kamal-proxy keeps its state."""
    folder = tmp_path / "kamal-proxy-config"
    folder.mkdir()
    return folder / "kamal-proxy.state"


def wait_for(condition: Callable[[], object], what: str = "it to be read") -> None:
    wait_until(condition, 20, what)


def put(file: Path, content: bytes) -> None:
    """Has the file whole from its first moment on."""
    other = file.with_name("other")
    other.write_bytes(content)
    other.replace(file)


def look_on() -> None:
    """Leaves time for many looks."""
    threading.Event().wait(MANY_LOOKS)


def test_it_is_read_before_anything_else_begins(file: Path) -> None:
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with following(file, read.append, period=60):
        assert read == [{"shop-web": {OLD}}]


def test_only_a_change_is_told(file: Path) -> None:
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with following(file, read.append, PERIOD):
        # Written anew, and in other words: it means the same.
        for indent in (None, 1, 2, 3):
            file.write_text(json.dumps(json.loads(WITH_OLD), indent=indent))
            look_on()
        assert len(read) == 1
        file.write_bytes(WITH_NEW)
        wait_for(lambda: read[-1] == {"shop-web": {NEW}})
        assert len(read) == 2


def test_a_state_of_the_same_size_is_seen(file: Path) -> None:
    assert len(WITH_OLD) == len(WITH_NEW)
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with following(file, read.append, PERIOD):
        # In place, as kamal-proxy does it: the same inode, too.
        for content in (WITH_NEW, WITH_OLD, WITH_NEW):
            look_on()
            file.write_bytes(content)
            wait_for(partial(ends_with, read, parse(content)))
    assert len(read) == 4


def ends_with(read: list[Active], active: Active) -> bool:
    return read[-1] == active


def test_another_file_in_its_place_is_seen(file: Path) -> None:
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with following(file, read.append, PERIOD):
        other = file.with_name("other")
        other.write_bytes(WITH_NEW)
        status = file.stat()
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(file)
        wait_for(lambda: read[-1] == {"shop-web": {NEW}})


def test_half_of_it_changes_nothing_and_the_other_half_does(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with following(file, read.append, PERIOD), file.open("wb") as writer:
        wait_for(lambda: "is not kamal-proxy's state" in caplog.text)
        writer.write(BOTH[:50])
        writer.flush()
        look_on()
        assert read == [{"shop-web": {OLD}}]
        writer.write(BOTH[50:])
        writer.flush()
        wait_for(lambda: len(read) == 2)
    assert read[-1] == {"shop-web": {OLD}, "blog-web": {NEW}}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_what_was_known_outlives_garbage(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with following(file, read.append, PERIOD):
        file.write_bytes(content)
        wait_for(lambda: "what was known of it before stays" in caplog.text)
        assert read == [{"shop-web": {OLD}}]
        file.write_bytes(WITH_NEW)
        wait_for(lambda: len(read) == 2)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nor_does_a_bottomless_one_end_it(file: Path, opening: bytes) -> None:
    file.write_bytes(opening * 100_000)
    read: list[Active] = []
    with following(file, read.append, PERIOD):
        file.write_bytes(WITH_NEW)
        wait_for(lambda: read)


def test_one_that_is_not_there_yet_is_waited_for_and_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read: list[Active] = []
    with following(file, read.append, PERIOD):
        look_on()
        assert read == []
        (said,) = caplog.messages
        assert said.startswith(f"{file}: cannot be read: No such file or directory; what was known")
        put(file, WITH_OLD)
        wait_for(lambda: read == [{"shop-web": {OLD}}])
        file.unlink()
        wait_for(lambda: len(caplog.messages) == 2)
        look_on()
        assert caplog.messages == [said, said]
        put(file, WITH_NEW)
        wait_for(lambda: read[-1] == {"shop-web": {NEW}})


def test_whoever_starts_again_reads_it_again(file: Path) -> None:
    file.write_bytes(WITH_OLD)
    for _ in range(2):
        read: list[Active] = []
        with following(file, read.append, PERIOD):
            assert read == [{"shop-web": {OLD}}]


def test_afterwards_nobody_reads_it_any_more(file: Path) -> None:
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with following(file, read.append, PERIOD):
        assert "kamal-proxy state" in {each.name for each in threading.enumerate()}
    assert "kamal-proxy state" not in {each.name for each in threading.enumerate()}
    file.write_bytes(WITH_NEW)
    look_on()
    assert len(read) == 1


def test_a_state_in_order_is_not_worth_a_word(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    file.write_bytes(WITH_OLD)
    with following(file, lambda _: None, PERIOD):
        look_on()
    assert caplog.messages == []


# --- what lies beside it ---


def test_nothing_else_in_its_folder_is_opened(file: Path) -> None:
    # The keys of the certificates are there. Whoever opens a FIFO would hang, besides.
    os.mkfifo(file.with_name("a.fifo"))
    file.with_name("certs").mkdir()
    file.with_name("certs").joinpath("acme_account+key").write_text("secret")
    file.write_bytes(WITH_OLD)
    read: list[Active] = []
    with noting_what_is_opened() as opened, following(file, read.append, PERIOD):
        look_on()
        file.with_name("certs").joinpath("shop.example").write_text("secret")
        file.write_bytes(WITH_NEW)
        wait_for(lambda: len(read) == 2)
    ours = [each for each in opened if each.startswith(str(file.parent))]
    assert str(file) in ours
    assert set(ours) == {str(file), str(file.parent / "certs" / "shop.example")}
