"""The shipped accessories, booted by the real Kamal beside the app that they watch."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx
import pytest
import yaml

from tests.lab.kamal import HOST, KAMAL, App
from tests.lab.process import LabError, free_port, wait_until
from tests.lab.sd import REPOSITORY
from tests.lab.world import World

pytestmark = pytest.mark.real

DEPLOY = REPOSITORY / "deploy"
STANZAS = DEPLOY / "accessories"
PROGRAM = "/opt/kamal-sd/bin/kamal-sd"
ROLES = ("job", "web")
INSTANCES = [f"shop-{role}:9394" for role in ROLES]
# What the shipped files are copied to, as their comments say.
FILES = {
    "config/kamal-sd/haproxy.cfg": DEPLOY / "socket-proxy/haproxy.cfg",
    "config/prometheus.yml": DEPLOY / "prometheus/prometheus.yml",
}

Stanza = dict[str, Any]


def shipped(name: str) -> Stanza:
    """Return the stanza as it is when it is pasted below `accessories:`."""
    text = "accessories:\n" + (STANZAS / f"{name}.yml").read_text()
    found: Stanza = yaml.safe_load(text)["accessories"]
    return found


class Town:
    """An app that Kamal deploys, the accessories beside it, and what Prometheus sees."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.docker = world.docker.docker
        self.ports = {9889: free_port(), 9090: free_port()}
        self.images = {
            "registry.example.com/kamal-sd:0.1.0": world.shipped,
            "haproxy:3.2": world.haproxy,
            "prom/prometheus:v3.5.0": world.prometheus,
        }

    def app(self, *stanzas: str) -> App:
        """The app with these accessories; of what is shipped only the places are the lab's."""
        accessories: Stanza = {}
        for name in stanzas:
            for accessory, stanza in shipped(name).items():
                accessories[accessory] = self._here(stanza)
        app = self.world.app(accessories=accessories)
        for name, source in FILES.items():
            target = app.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # A minute less to wait for whoever tests.
            target.write_text(source.read_text().replace("15s", "1s"))
        return app

    def _here(self, stanza: Stanza) -> Stanza:
        socket = self.world.engine.socket
        here: Stanza = json.loads(
            json.dumps(stanza)
            .replace("/var/run/docker.sock:", f"{socket}:")
            .replace("192.0.2.10", HOST)
            .replace(', "192.0.2.11"', "")
        )
        here["image"] = self.images[stanza["image"]]
        if "group-add" in here["options"]:
            here["options"]["group-add"] = str(socket.stat().st_gid)
        if "port" in here:
            published = re.sub(
                r"\d+(?=:\d+$)", lambda found: str(self.ports[int(found[0])]), here["port"]
            )
            here["port"] = published
        return here

    @property
    def url(self) -> str:
        """Where kamal-sd is published."""
        return f"http://{HOST}:{self.ports[9889]}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=10, trust_env=False)

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"http://{HOST}:{self.ports[9090]}/api/v1/query",
            params={"query": expression},
            timeout=10,
            trust_env=False,
        )
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/targets").raise_for_status().json()
        return found

    def wait_served(self, host: str = "") -> None:
        """Wait until kamal-sd has a target for both roles, which is its relay.

        With `host`, instances that begin with it.
        """
        expected = [f"{host}/{each}" if host else each for each in INSTANCES]

        def served() -> bool:
            with suppress(httpx.HTTPError):
                return sorted(each["labels"]["instance"] for each in self.targets()) == expected
            return False

        wait_until(served, 30, "kamal-sd to serve both roles")
        for each in self.targets():
            assert each["labels"]["__metrics_path__"].startswith("/scrape/")

    def scraped(self) -> dict[str, str]:
        """What the scraped apps say of themselves: version by role, where `up` is 1."""
        with suppress(httpx.HTTPError):
            up = {
                each["metric"]["instance"]: each["value"][1]
                for each in self.query('up{job="kamal"}')
            }
            if up != dict.fromkeys(INSTANCES, "1"):
                return {}
            found = {}
            for each in self.query('shop_build_info{job="kamal"}'):
                labels = each["metric"]
                assert labels["exported_role"] == labels["role"]
                assert labels["instance"] == f"shop-{labels['role']}:9394"
                found[labels["role"]] = labels["version"]
            return found
        return {}

    def wait_scraped(self, version: str) -> None:
        wanted = dict.fromkeys(ROLES, version)
        try:
            wait_until(lambda: self.scraped() == wanted, 60, f"{version} to be scraped")
        except LabError as error:
            raise LabError(f"{error}; up is {self.query('up')}") from None
        joined = "up * on (service, role, host) group_left (version) kamal_sd_slot_info"
        wait_until(
            lambda: {each["metric"]["version"] for each in self.query(joined)} == {version},
            30,
            f"{version} to be joined",
        )

    def snapshots(self) -> dict[str, str]:
        """The files in the data volume, and their sizes."""
        listed = self.docker(
            *("run", "--rm", "--network=none", "--volume=kamal-sd-data:/data"),
            *("--entrypoint=/usr/bin/find", self.world.shipped, "/data", "-type", "f"),
            *("-printf", "%f %s\\n"),
        )
        return dict(line.rsplit(" ", 1) for line in listed.splitlines())

    def container(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.docker("inspect", name))[0]
        return found


@pytest.fixture
def town(world: World) -> Iterator[Town]:
    world.reset()
    for name in ("kamal-sd-data", "kamal-sd-socket", "prometheus-data"):
        with suppress(LabError):
            world.docker.docker("volume", "rm", name)
    yield Town(world)
    world.reset()


def assert_hardened(container: Mapping[str, Any], user: str) -> None:
    host = container["HostConfig"]
    assert container["Config"]["User"] == user
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"


def assert_commands_work(app: App) -> None:
    assert "shop-web-v2" in app.kamal(
        "accessory", "exec", "kamal-sd", "--reuse", f"{PROGRAM} explain --url http://127.0.0.1:9889"
    )
    # Without --reuse it is a container that lacks the `options`, and so the group of the socket.
    assert "settings file" in app.kamal("accessory", "exec", "kamal-sd", "check --help")
    assert "listening at" in app.kamal("accessory", "logs", "kamal-sd")


def deploy_with_hook(app: App, version: str) -> None:
    """The shipped hook calls Kamal in its turn, in the middle of the deploy."""
    hook = app.folder / ".kamal/hooks/post-app-boot"
    hook.parent.mkdir(exist_ok=True)
    shutil.copy(DEPLOY / "hooks/post-app-boot", hook)
    app._variables["PATH"] = f"{KAMAL.parent}:{app._environment()['PATH']}"
    app.deploy(version)
    hook.unlink()


def assert_the_hook_manages_names(app: App, town: Town) -> None:
    """What the shipped hook did while Kamal deployed, and all of it taken away again."""
    network = town.docker("network", "inspect", "kamal-sd")
    assert '"Internal": true' in network
    assert set(re.findall(r'"Name": "(shop-[a-z]+-v[0-9])"', network)) == {
        "shop-web-v2",
        "shop-job-v2",
    }
    # As the README has it.
    town.docker("network", "connect", "kamal-sd", "shop-prometheus")
    command = f"{PROGRAM} alias sync --remove"
    assert "shop-web-v2 leaves" in app.kamal("accessory", "exec", "kamal-sd", "--reuse", command)
    # What kamal-sd did not do is left.
    assert "kamal-sd" in town.container("shop-prometheus")["NetworkSettings"]["Networks"]
    town.docker("network", "disconnect", "kamal-sd", "shop-prometheus")
    town.docker("network", "rm", "kamal-sd")


def test_a_life_of_accessories(town: Town) -> None:
    for version in ("v1", "v2"):
        town.world.image(version)
    app = town.app("direct-socket", "prometheus")
    app.deploy("v1")

    # --- at the engine's own socket ---
    app.accessory_boot("kamal-sd")
    app.accessory_boot("prometheus")
    town.wait_served()
    assert_hardened(town.container("shop-kamal-sd"), "65532:65532")
    assert_hardened(town.container("shop-prometheus"), "65534:65534")
    town.wait_scraped("v1")

    deploy_with_hook(app, "v2")
    town.wait_scraped("v2")
    # Through the deploy no scrape was missed, and no series is new.
    assert [each["value"][1] for each in town.query('min_over_time(up{job="kamal"}[5m])')] == [
        "1",
        "1",
    ]
    assert len(town.query('count_over_time(up{job="kamal"}[5m])')) == len(ROLES)

    assert_commands_work(app)
    assert_the_hook_manages_names(app, town)

    # --- a reboot, as for a new version ---
    before, files = town.container("shop-kamal-sd")["Id"], town.snapshots()
    assert files
    app.kamal("accessory", "reboot", "kamal-sd")
    assert town.container("shop-kamal-sd")["Id"] != before
    town.wait_served()
    town.wait_scraped("v2")
    assert set(town.snapshots()) == set(files)
    assert_an_heir_serves(town)

    app.kamal("accessory", "remove", "kamal-sd", "--confirmed")
    assert town.world.engine.containers("name=^shop-kamal-sd$") == []
    assert len(town.world.engine.containers("status=running", "label=service=shop")) == len(ROLES)

    # --- through the socket proxy ---
    app = town.app("socket-proxy", "prometheus")
    app.accessory_boot("kamal-sd-socket")
    app.accessory_boot("kamal-sd")
    town.wait_served()
    town.wait_scraped("v2")
    sd, proxy = (town.container(f"shop-{name}") for name in ("kamal-sd", "kamal-sd-socket"))
    assert_hardened(sd, "65532:65532")
    assert_hardened(proxy, "0")
    assert "docker.sock" not in json.dumps(sd["Mounts"])
    assert list(proxy["NetworkSettings"]["Networks"]) == ["none"]
    # The socket of a HAProxy that starts anew is another one, in the same folder.
    app.kamal("accessory", "reboot", "kamal-sd-socket")
    wait_until(
        lambda: re.search(r"^kamal_sd_engine_up\{.*\} 1", town.get("/metrics").text, re.MULTILINE),
        30,
        "kamal-sd to be connected again",
    )
    app.deploy("v1")
    town.wait_scraped("v1")
    for name in ("kamal-sd", "kamal-sd-socket"):
        app.kamal("accessory", "remove", name, "--confirmed")

    # --- one a host, for a Prometheus that only reaches its published port ---
    app = town.app("one-a-host", "prometheus")
    app.accessory_boot("kamal-sd")
    town.wait_served(HOST)
    assert_hardened(town.container("shop-kamal-sd"), "65532:65532")
    for target in town.targets():
        assert target["targets"] == [town.url.removeprefix("http://")]
        assert target["labels"]["host"] == HOST
        answer = town.get(target["labels"]["__metrics_path__"])
        assert f'role="{target["labels"]["role"]}",version="v1"' in answer.text


def assert_an_heir_serves(town: Town) -> None:
    """A kamal-sd that reaches no engine serves what the volume has."""
    docker = town.docker
    heir = docker(
        *("run", "--detach", "--network=kamal", f"--env=KAMAL_HOST={HOST}"),
        *("--volume=kamal-sd-data:/data", town.world.shipped),
    ).strip()
    address = town.container(heir)["NetworkSettings"]["Networks"]["kamal"]["IPAddress"]

    def serves() -> bool:
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"http://{address}:9889/targets", timeout=10, trust_env=False)
            return answer.is_success and answer.text.count("__meta_kamal_version") == len(ROLES)
        return False

    wait_until(serves, 20, "the snapshot to be served")
    docker("rm", "--force", heir)
