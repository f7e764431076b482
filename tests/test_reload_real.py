"""Other settings for a real server before a real engine, while containers come and go."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests import http_sd_reader
from tests.engine.forwarder import Forwarder
from tests.engine.town import IMAGE, Sampler, Town, wait_for
from tests.lab.engine import Engine
from tests.lab.sd import Server
from tests.test_reload import handmade, metric, reload

pytestmark = pytest.mark.real

RELOADS: Final = 20


class Scene:
    """A server before a forwarder to the engine, which notes what is asked; its settings file."""

    def __init__(self, directory: Path, forwarder: Forwarder, town: Town) -> None:
        self.town = town
        self.forwarder = forwarder
        self._file = directory / "config.yml"
        self.write()
        self.server = Server(directory / "server", config=self._file)

    def write(self, *more: dict[str, str], **given: Any) -> None:
        """JSON is YAML. Without `more` there is the real engine alone."""
        engines = [{"url": self.forwarder.url, "host": "real"}, *more]
        document = {
            "engines": engines, "defaults": {"address": "ip"}, "reload": {"http": True}
        }  # fmt: skip
        self._file.write_text(json.dumps(document | given))

    def reload(self, *more: dict[str, str], **given: Any) -> None:
        self.write(*more, **given)
        answered = reload(self.server)
        assert answered.is_success, answered.text

    def deploy(self, version: str) -> str:
        """Starts a generation of the role web, as Kamal does; its id."""
        labels = {"service": "town", "role": "web", "destination": "", "prometheus.port": "9394"}
        options = [f"--label={name}={value}" for name, value in labels.items()]
        return self.town.engine.docker(
            *("run", "--detach", "--network=kamal", f"--name=town-web-{version}", *options),
            *(IMAGE, "/bin/app", "web"),
        ).strip()

    def versions(self) -> dict[str, str]:
        """The version of each instance. Fails where /targets does."""
        return versions(self.targets())

    def targets(self) -> bytes:
        return self.server.get("/targets").raise_for_status().content

    def connections(self) -> int:
        """How often the engine was asked for its events."""
        return len([line for line in self.forwarder.requests if "/events" in line])

    def wait_for_connections(self, count: int) -> None:
        wait_for(lambda: self.connections() == count, f"{count} connections")

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.server.pid}/task").iterdir()))


def versions(content: bytes) -> dict[str, str]:
    found = http_sd_reader.read(content)
    return {each.labels["instance"]: each.labels["__meta_kamal_version"] for each in found}


@pytest.fixture
def scene(engine: Engine, tmp_path: Path) -> Iterator[Scene]:
    town = Town(engine)
    with Forwarder(tmp_path / "forwarder.sock", engine.socket) as forwarder:
        scene = Scene(tmp_path, forwarder, town)
        with scene.server:
            yield scene


def test_a_port_changes_without_another_connection(scene: Scene) -> None:
    scene.deploy("v1")
    wait_for(lambda: scene.versions() == {"town-web:9394": "v1"}, "the first one")
    asked = list(scene.forwarder.requests)
    scene.write(roles=[{"role": "web", "port": 9400}])
    scene.server.signal(signal.SIGHUP)
    wait_for(lambda: scene.versions() == {"town-web:9400": "v1"}, "the other port")
    assert scene.forwarder.requests == asked
    assert metric(scene.server, r'kamal_sd_engine_reconnects_total\{host="real"\}') == 0


def test_engines_of_both_kinds_come_and_go(scene: Scene) -> None:
    scene.deploy("v1")
    with ExitStack() as stack:
        engines = [
            {"url": stack.enter_context(handmade(name)).url, "host": name}
            for name in ("one", "two", "three")
        ]
        expected = {f"{name}/{name}-web:9394" for name in ("one", "two", "three")}
        # A change of the file is enough.
        scene.write(*engines)
        everywhere = {"real/town-web:9394", *expected}
        wait_for(lambda: scene.versions().keys() == everywhere, "all four")
        scene.write(*engines[:2])
        wait_for(lambda: len(scene.versions()) == 3, "three")
        scene.reload(engines=engines)
        assert scene.versions().keys() == expected
        scene.reload(*engines)
        # It was known before.
        assert scene.versions()["real/town-web:9394"] == "v1"
        scene.reload()
        wait_for(lambda: scene.versions() == {"town-web:9394": "v1"}, "the real one alone")
        scene.deploy("v2")
        wait_for(lambda: "town-web-v2" in scene.server.get("/explain").text, "what comes next")


def test_reloads_in_the_middle_of_a_deploy_are_not_noticed(scene: Scene) -> None:
    """Some of them have the engine watched anew, others do not; mistakes are among them."""
    old = scene.deploy("v1")
    wait_for(lambda: scene.versions() == {"town-web:9394": "v1"}, "the first one")
    turns: list[dict[str, Any]] = [
        {"aliases": {"verify": True}},
        {"overlap_limit": "2m"},
        {"container_labels": ["com.example.*"], "keep_missing": "2h"},
        {},
    ]
    with Sampler(scene.targets) as sampler:
        for given in turns:
            scene.reload(**given)
        scene.deploy("v2")
        for given in turns:
            scene.reload(**given)
            scene.write(overlap_limit="soon")
            assert not reload(scene.server).is_success
        scene.town.engine.docker("stop", "--time=1", old)
        for given in turns:
            scene.reload(**given)
        wait_for(lambda: scene.versions() == {"town-web:9394": "v2"}, "the next one")
        scene.town.engine.docker("rm", old)
        for given in turns:
            scene.reload(**given)
    seen = [versions(each)["town-web:9394"] for each in sampler.bodies]
    assert sorted(seen) == seen
    assert set(seen) == {"v1", "v2"}


def test_whoever_has_taken_over_stays_so(scene: Scene) -> None:
    """The older one still runs, and would be current for a server that knows nothing."""
    scene.deploy("v1")
    scene.reload(overlap_limit="2s")
    wait_for(lambda: scene.versions() == {"town-web:9394": "v1"}, "the first one")
    scene.deploy("v2")
    wait_for(lambda: scene.versions() == {"town-web:9394": "v2"}, "the overlap to be over")
    with Sampler(scene.targets) as sampler:
        for number in range(2, 7):
            # Another watcher each time, for it is about how that one lists.
            scene.reload(overlap_limit="1h", resync_interval=f"{number}m")
            scene.wait_for_connections(number)
    assert {versions(each)["town-web:9394"] for each in sampler.bodies} == {"v2"}


def test_many_reloads_leave_no_thread_and_no_connection(scene: Scene, tmp_path: Path) -> None:
    scene.deploy("v1")
    wait_for(lambda: scene.versions() == {"town-web:9394": "v1"}, "the first one")
    files = Path(f"/proc/{scene.server.pid}/fd")
    scene.reload()
    threads, connections, opened = scene.threads(), scene.connections(), len(list(files.iterdir()))
    with handmade("one") as other:
        for number in range(RELOADS):
            scene.reload(
                {"url": other.url, "host": "one"},
                file_sd=str(tmp_path / f"{number}.json"),
                peers=[f"http://127.0.0.1:{number + 1}"],
                proxy={"state_file": str(tmp_path / "none")},
            )
            scene.reload()
        wait_for(lambda: scene.threads() == threads, f"{threads} threads")
        wait_for(lambda: len(list(files.iterdir())) <= opened, f"{opened} files")
    assert scene.connections() == connections
    assert scene.versions() == {"town-web:9394": "v1"}
