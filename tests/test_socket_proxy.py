"""The shipped HAProxy configuration, between a real engine and whoever asks."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import yaml

from tests import socket_rules
from tests.engine.forwarder import Forwarder
from tests.lab import image
from tests.lab.engine import Docker, Engine
from tests.lab.packages import require
from tests.lab.process import LabError, Process, free_port, run, system_environment, wait_until
from tests.lab.sd import REPOSITORY, Server
from tests.lab.world import World
from tests.socket_requests import ENCODED, PASS, REFUSED, SWITCHED

pytestmark = pytest.mark.real

DEPLOY = REPOSITORY / "deploy"
CONFIG = DEPLOY / "socket-proxy/haproxy.cfg"


@pytest.fixture
def proxy(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """HAProxy with the shipped configuration; where it listens and asks is the test's."""
    with proxied(engine, tmp_path, CONFIG.read_text()) as place:
        yield place


@pytest.fixture
def wide_proxy(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """The same, with what aliases need switched on."""
    text, switched = re.subn(r"^    #acl", "    acl", CONFIG.read_text(), flags=re.MULTILINE)
    assert switched == sum(bool(route.switch) for route in socket_rules.routes())
    with proxied(engine, tmp_path, text) as place:
        yield place


@contextmanager
def proxied(engine: Engine, tmp_path: Path, text: str) -> Iterator[Path]:
    require("haproxy")
    # Paths of sockets are short.
    place = Path(engine.directory) / "proxy.sock"
    assert text.count("/run/kamal-sd/docker.sock") == text.count("/var/run/docker.sock") == 1
    file = tmp_path / "haproxy.cfg"
    file.write_text(
        text.replace("/run/kamal-sd/docker.sock", str(place)).replace(
            "/var/run/docker.sock", str(engine.socket)
        )
    )
    command = ["haproxy", "-W", "-db", "-f", str(file)]
    with Process("haproxy", command, log=tmp_path / "haproxy.log") as process:
        process.wait_ready(lambda: answers(place))
        yield place
        log = process.tail()
    assert "[WARNING]" not in log, log
    assert "[ALERT]" not in log, log


def ask(place: Path, request: str, *headers: str, body: str = "") -> tuple[int, str]:
    """Send a request as it is written, and return the status and the beginning of the answer."""
    head = "\r\n".join((f"{request} HTTP/1.1", "Host: docker", "Connection: close", *headers))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(place))
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        answer = b""
        while len(answer) < 4000 and (part := connection.recv(4000)):
            answer += part
    return int(answer.split()[1]), answer.decode(errors="replace")


def answers(place: Path) -> bool:
    with suppress(OSError):
        return ask(place, "GET /version")[0] == 200
    return False


def have_network(engine: Engine, name: str, *options: str) -> None:
    # The engine is all tests' own.
    with suppress(LabError):
        engine.docker("network", "create", *options, name)


def start(engine: Engine, network: str = "none", version: str = "v1") -> str:
    image.build(engine, f"shop:{version}", version)
    labels = {"service": "shop", "role": "web", "destination": "", "prometheus.port": "9394"}
    options = [f"--label={name}={value}" for name, value in labels.items()]
    return engine.docker(
        *("run", "--detach", f"--network={network}", f"--name=shop-web-{version}", *options),
        *(f"shop:{version}", "/bin/app", "web"),
    ).strip()


# --- what passes ---


def test_a_life_with_names_asks_for_each_route_and_nothing_else(
    engine: Engine, wide_proxy: Path, tmp_path: Path
) -> None:
    have_network(engine, "kamal-sd", "--internal")
    have_network(engine, "kamal")
    old = start(engine, "kamal")
    config = tmp_path / "config.yml"
    config.write_text("aliases: {manage: true}\ndefaults: {address: alias}\n")

    def is_named(container: str) -> bool:
        shown = "{{json .NetworkSettings.Networks}}"
        return "managed-by-kamal-sd" in engine.docker("inspect", f"--format={shown}", container)

    with (
        Forwarder(Path(engine.directory) / "asked.sock", wide_proxy) as forwarder,
        Server(tmp_path / "sd", forwarder.url, config=config),
    ):
        wait_until(lambda: is_named(old), 10, "its name")
        new = start(engine, "kamal", "v2")
        engine.docker("stop", "--time=1", old)
        wait_until(lambda: is_named(new) and not is_named(old), 10, "the name to move")
        forwarder.cut()
        seen = len(forwarder.requests)
        wait_until(lambda: len(forwarder.requests) >= seen + 3, 10, "it to be there again")
    assert {socket_rules.route(each) for each in forwarder.requests} == {*socket_rules.routes()}


def test_without_the_right_to_inspect_nothing_is_lost(
    engine: Engine, proxy: Path, tmp_path: Path
) -> None:
    have_network(engine, "kamal")
    start(engine, "kamal")
    config = tmp_path / "config.yml"
    config.write_text("aliases: {verify: true}\ndefaults: {address: alias, alias: '{slot}'}\n")
    with Server(tmp_path / "sd", f"unix://{proxy}", config=config) as server:
        (target,) = server.targets()
        assert target["targets"] == ["shop-web:9394"]
        (told,) = server.get("/explain").json()["engines"]
        assert "403" in told["alias_error"]
        assert told["up"]


def test_kamal_sd_works_through_it(engine: Engine, proxy: Path, tmp_path: Path) -> None:
    """Its first list, and then an event, which comes at once."""
    config = tmp_path / "config.yml"
    # By the list alone it would see the container within an hour.
    config.write_text("resync_interval: 1h\n")
    with Server(tmp_path / "sd", f"unix://{proxy}", config=config) as server:
        assert server.targets() == []
        started = time.monotonic()
        container = start(engine)
        wait_until(lambda: "shop-web-v1" in server.get("/explain").text, 10, "the container")
        assert time.monotonic() - started < 5
        engine.docker("kill", container)
        wait_until(lambda: '"exited"' in server.get("/explain").text, 10, "its end")
        assert 'kamal_sd_engine_up{host=""} 1.0' in server.get("/metrics").text


def test_its_questions_pass(proxy: Path) -> None:
    for request_line in PASS:
        status, said = ask(proxy, request_line)
        assert (status, "Docker" in said) == (200, True), request_line


def test_what_has_a_switch_passes_with_it(wide_proxy: Path) -> None:
    for request_line in SWITCHED:
        body = "{}" if request_line.startswith("POST") else ""
        status, said = ask(wide_proxy, request_line, *of_length(body), body=body)
        # The engine has no such container, or finds too little in the body.
        assert status in (400, 404), request_line
        assert "Docker/" in said, request_line


# --- what does not ---


def test_all_else_is_refused(proxy: Path) -> None:
    assert_refused(proxy, [*REFUSED, *ENCODED, *SWITCHED])


def test_all_else_is_refused_with_the_switches_on(wide_proxy: Path) -> None:
    assert_refused(wide_proxy, [*REFUSED, *ENCODED])
    assert_refused(wide_proxy, [*REFUSED, *ENCODED], body="{}")


def assert_refused(proxy: Path, request_lines: list[str], *, body: str = "") -> None:
    for request_line in request_lines:
        status, said = ask(proxy, request_line, *of_length(body), body=body)
        # 400 is HAProxy's own word for what is no HTTP.
        assert status in (403, 400), request_line
        assert "Docker/" not in said, f"the engine has answered {request_line}"


def of_length(body: str) -> list[str]:
    return [f"Content-Length: {len(body)}"] if body else []


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: 2", "{}"),
        ("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"),
        ("Upgrade: tcp", ""),
        ("Upgrade: h2c", ""),
        ("Content-Length: 40", "POST /v1.41/containers/create HTTP/1.1\r\n"),
    ],
)
def test_nothing_hides_behind_a_good_question(proxy: Path, header: str, body: str) -> None:
    status, said = ask(proxy, "GET /v1.41/containers/json", header, body=body)
    assert status == 403
    assert "Docker/" not in said


def test_each_request_on_a_connection_is_looked_at(proxy: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(proxy))
        good, bad = (f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in ("/version", "/info"))
        connection.sendall((good + bad).encode())
        answer = b""
        while answer.count(b"HTTP/1.1 ") < 2 and (part := connection.recv(4000)):
            answer += part
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"403"]


def test_no_other_protocol_is_spoken(proxy: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(proxy))
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        answer = connection.recv(4000)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))


def test_the_docker_command_can_look_and_do_nothing(engine: Engine, proxy: Path) -> None:
    container = start(engine)
    docker = Docker(f"unix://{proxy}")
    for words in (
        ("inspect", container),
        ("logs", container),
        ("export", container),
        ("cp", f"{container}:/bin/app", "-"),
        ("exec", container, "/bin/sh"),
        ("kill", container),
        ("rm", "--force", container),
        ("run", "--rm", "shop:v1", "/bin/sleep", "0"),
        ("image", "ls"),
    ):
        with pytest.raises(LabError, match=r"only what kamal-sd asks is let through|403|orbidden"):
            docker.docker(*words)
    assert engine.containers("status=running") == [container]


def test_an_engine_that_is_away_comes_back(engine: Engine, proxy: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "sd", f"unix://{proxy}") as server:
        engine.stop()
        wait_until(lambda: 'engine_up{host=""} 0.0' in server.get("/metrics").text, 10, "a word")
        assert server.get("/targets").is_success
        assert ask(proxy, "GET /version")[0] == 503
        engine.start()
        wait_until(lambda: 'engine_up{host=""} 1.0' in server.get("/metrics").text, 30, "it again")


# --- compose ---


def test_compose_runs_it_all(world: World, engine: Engine, tmp_path: Path) -> None:
    """The shipped file, with the lab's images, socket and ports."""
    require("docker-compose")
    if not engine.docker("network", "ls", "-q", "--filter", "name=^kamal$"):
        engine.docker("network", "create", "kamal")
    start(engine, "kamal")
    ports = {"9889": free_port(), "9090": free_port()}
    text = (DEPLOY / "compose.yml").read_text()
    for before, after in (
        ("registry.example.com/kamal-sd:0.1.0", world.shipped),
        ("haproxy:3.2", world.haproxy),
        ("prom/prometheus:v3.5.0", world.prometheus),
        ("/var/run/docker.sock:", f"{engine.socket}:"),
        *((f"127.0.0.1:{name}:", f"127.0.0.1:{port}:") for name, port in ports.items()),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    file = tmp_path / "compose.yml"
    file.write_text(text)
    compose = ["docker-compose", "-p", "lab", "-f", str(file), "--project-directory", str(DEPLOY)]
    environment = system_environment(DOCKER_HOST=engine.url, HOME="/nonexistent")
    query = f"http://127.0.0.1:{ports['9090']}/api/v1/query"
    up = {"query": 'up{job="kamal",instance="shop-web:9394"} == 1'}

    def scraped() -> bool:
        with suppress(httpx.HTTPError):
            answer = httpx.get(query, params=up, trust_env=False)
            return answer.is_success and len(answer.json()["data"]["result"]) == 1
        return False

    try:
        run([*compose, "up", "--detach"], env=environment)
        wait_until(scraped, 60, "Prometheus to have scraped the app")
        ready = f"http://127.0.0.1:{ports['9889']}/-/ready"
        assert httpx.get(ready, trust_env=False).is_success
    finally:
        run([*compose, "down", "--volumes", "--timeout=5"], env=environment)


def test_compose_has_the_same_parts() -> None:
    """As Compose itself reads the file."""
    require("docker-compose")
    text = run(
        ["docker-compose", "--file", DEPLOY / "compose.yml", "config"],
        env=system_environment(HOME="/nonexistent"),
        cwd=DEPLOY,
    )
    parts = yaml.safe_load(text)["services"]
    accessories = yaml.safe_load((DEPLOY / "accessories/socket-proxy.yml").read_text())
    accessories |= yaml.safe_load((DEPLOY / "accessories/prometheus.yml").read_text())
    names = {"kamal-sd": "kamal-sd", "socket-proxy": "kamal-sd-socket", "prometheus": "prometheus"}
    assert set(parts) == set(names)
    for name, accessory in names.items():
        assert parts[name]["image"] == accessories[accessory]["image"]
        assert parts[name].get("user") == accessories[accessory]["options"].get("user")
        assert parts[name]["read_only"] is accessories[accessory]["options"]["read-only"] is True
        assert parts[name]["cap_drop"] == ["ALL"]
        assert parts[name]["security_opt"] == ["no-new-privileges"]
        for volume in parts[name]["volumes"]:
            source, target, *_ = volume.split(":")
            assert source.startswith("/") is (
                source not in ("kamal-sd-data", "kamal-sd-socket", "prometheus-data")
            )
            if source.startswith(str(DEPLOY)):
                assert Path(source).is_file()
            assert target in json.dumps(accessories[accessory])
    assert parts["kamal-sd"]["environment"] == accessories["kamal-sd"]["env"]["clear"]
    assert parts["socket-proxy"]["network_mode"] == accessories["kamal-sd-socket"]["network"]
