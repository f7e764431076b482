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

from tests.lab import image
from tests.lab.engine import Docker, Engine
from tests.lab.packages import require
from tests.lab.process import LabError, Process, free_port, run, system_environment, wait_until
from tests.lab.sd import REPOSITORY, Server
from tests.lab.world import World

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
    assert switched == 2
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
        process.wait_ready(Docker(f"unix://{place}").answers)
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


def have_network(engine: Engine, name: str, *options: str) -> None:
    # The engine is all tests' own.
    with suppress(LabError):
        engine.docker("network", "create", *options, name)


def start(engine: Engine, network: str = "none") -> str:
    image.build(engine, "shop:v1", "v1")
    labels = {"service": "shop", "role": "web", "destination": "", "prometheus.port": "9394"}
    options = [f"--label={name}={value}" for name, value in labels.items()]
    return engine.docker(
        *("run", "--detach", f"--network={network}", "--name=shop-web-v1", *options),
        *("shop:v1", "/bin/app", "web"),
    ).strip()


# --- what passes ---


def test_names_are_managed_through_it_where_it_lets_them(
    engine: Engine, wide_proxy: Path, tmp_path: Path
) -> None:
    have_network(engine, "kamal-sd", "--internal")
    have_network(engine, "kamal")
    container = start(engine, "kamal")
    config = tmp_path / "config.yml"
    config.write_text("aliases: {manage: true}\ndefaults: {address: alias}\n")
    with Server(tmp_path / "sd", f"unix://{wide_proxy}", config=config):
        shown = "{{json .NetworkSettings.Networks}}"
        wait_until(
            lambda: (
                "managed-by-kamal-sd" in engine.docker("inspect", f"--format={shown}", container)
            ),
            10,
            "its name",
        )
    for request in (
        "POST /v1.41/networks/kamal/connect",
        "POST /v1.41/networks/kamal-sd%2f..%2fkamal/connect",
        "POST /v1.41/networks/create",
        f"POST /v1.41/containers/{container}/exec",
        f"POST /v1.41/containers/{container}/json",
        "GET /v1.41/networks/kamal-sd/connect",
        f"DELETE /v1.41/networks/kamal-sd/{container}/connect",
        f"GET /v1.41/containers/{container}/logs",
    ):
        status, _ = ask(wide_proxy, request, "Content-Length: 2", body="{}")
        assert status == 403, request


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


@pytest.mark.parametrize(
    "path",
    ["/_ping", "/version", "/v1.41/containers/json", "/v1.24/containers/json?all=1&limit=-1"],
)
def test_its_questions_pass(proxy: Path, path: str) -> None:
    status, said = ask(proxy, f"GET {path}")
    assert (status, "Docker" in said) == (200, True)


# --- what does not ---

ID = "shop-web-v1"
REFUSED = [
    *(f"GET /v1.41/containers/{ID}/{what}" for what in ("json", "logs?stdout=1", "export", "top")),
    *(f"GET /containers/{ID}/{what}" for what in ("json", "archive?path=/etc", "changes", "stats")),
    f"GET /v1.41/containers/{ID}/archive?path=/etc/passwd",
    f"PUT /v1.41/containers/{ID}/archive?path=/",
    f"HEAD /v1.41/containers/{ID}/archive?path=/",
    f"GET /v1.41/containers/{ID}/attach/ws?stream=1",
    "POST /v1.41/containers/create",
    *(f"POST /v1.41/containers/{ID}/{what}" for what in ("exec", "start", "kill", "update")),
    f"DELETE /v1.41/containers/{ID}?force=1",
    *(
        f"{method} /v1.41/containers/json"
        for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS")
    ),
    *(f"{method} /_ping" for method in ("HEAD", "POST", "get", "CONNECT")),
    "POST /build",
    "POST /session",
    "POST /grpc",
    "POST /v1.41/images/create?fromImage=x",
    *(f"GET /v1.41/{what}" for what in ("images/json", "networks", "volumes", "info", "secrets")),
    "GET /containers/json",
    "GET /events",
    "GET /v1.41/_ping",
    "GET /v1.41/version",
    "GET /v2.41/containers/json",
    "GET /v1.4x/containers/json",
    "GET /v1.41/containers/json/",
    "GET /v1.41/containers/jsonx",
    "GET /v1.41/events/x",
    # Another way of saying it.
    "GET /v1.41/containers/%6ason",
    "GET /v1.41/%63ontainers/json",
    f"GET /v1.41/containers/json/../{ID}/json",
    f"GET /v1.41/containers/json%2f..%2f{ID}%2fjson",
    f"GET /v1.41/events/..%2fcontainers/{ID}/json",
    "GET //v1.41/containers/json",
    "GET /v1.41//containers/json",
    "GET /v1.41/./containers/json",
    "GET /v1.41/containers/json;x",
    "GET /v1.41/containers/json%00",
    "GET /v1.41/containers/json%0a",
    "GET http://docker/v1.41/containers/json",
    f"GET http://docker/v1.41/containers/{ID}/json",
    f"GET /_ping/../containers/{ID}/json",
]


@pytest.mark.parametrize("request_line", REFUSED)
def test_all_else_is_refused(proxy: Path, request_line: str) -> None:
    status, said = ask(proxy, request_line)
    # 400 is HAProxy's own word for what is no HTTP.
    assert status in (403, 400)
    assert "Docker/" not in said, "the engine has answered"


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
        good, bad = (f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in ("/_ping", "/info"))
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
