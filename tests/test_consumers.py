"""The files in deploy/ as shipped, and the real programs with them, through a deploy.

All of them look at the same town at the same time, so that the waiting for scrapes and refreshes,
which come every 15 s as shipped, is done once.
"""

import json
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from tests.consumers import (
    DEPLOY,
    KAMAL_SD,
    STORAGE,
    Consumer,
    Consumers,
    Way,
    kamal_sd,
    sid_program,
)
from tests.lab import image, vmagent
from tests.lab.engine import Engine
from tests.lab.packages import require
from tests.lab.process import LabError, run, wait_until
from tests.lab.prometheus import http_sd_job, promtool_check_sd
from tests.lab.sd import REPOSITORY, Server
from tests.lab.world import World

pytestmark = pytest.mark.real

SWITCHING: Final = REPOSITORY / "docs/switching.md"
ODD: Final = "shöp one"
ODD_HEX: Final = ODD.encode().hex()
# Each role with the labels that it has in deploy.yml beside its port.
ROLES: Final = {
    ("shop", "web"): {},
    ("shop", "job"): {
        "prometheus.path": "/internal/metrics",
        "prometheus.interval": "5s",
        "prometheus.timeout": "3s",
    },
    (ODD, "web"): {},
    ("shop", "secure"): {"prometheus.scheme": "https"},
}
# The app speaks no HTTPS, so this one is down, and only asked rightly.
UP: Final = frozenset(ROLES) - {("shop", "secure")}
SETTINGS: Final = """
roles:
  - {service: shop, role: job, labels: {__param_module: redis}}
"""
# In place of the sample app's answers: at a path of its own, and telling how it was asked.
ANSWER: Final = """#!/bin/sh
read -r _ path _
while read -r line && line=${line%?} && [ "$line" ]; do
    case $line in
    [Aa]ccept:*) accept=${line#*: } ;;
    [Xx]-[Pp]rometheus-[Ss]crape-[Tt]imeout-[Ss]econds:*) timeout=${line#*: } ;;
    esac
done
read -r now _ </proc/uptime
status="404 Not Found" body=
case $path in /internal/metrics | /internal/metrics\\?*)
    status="200 OK" body="# TYPE shop_requests_total counter
shop_requests_total ${now%.*}
# TYPE shop_build_info gauge
shop_build_info{role=\\"$APP_ROLE\\",version=\\"$APP_VERSION\\"} 1
# TYPE shop_asked_info gauge
shop_asked_info{path=\\"$path\\",accept=\\"$accept\\",timeout=\\"${timeout%%.*}\\"} 1
" ;;
esac
printf 'HTTP/1.1 %s\\r\\nContent-Type: text/plain; version=0.0.4\\r\\nContent-Length: %d\\r\\n\
Connection: close\\r\\n\\r\\n%s' "$status" ${#body} "$body"
"""

Place = tuple[str, Way]
NAMES: Final = ("prometheus 2.42", "prometheus 3.5", "agent 2.42", "agent 3.5", "vmagent 1.145")
RELAYED: Final[list[Place]] = [(name, "relay") for name in NAMES]
ASKING: Final[list[Place]] = [*RELAYED, *((name, "ip") for name in NAMES)]
PLACES: Final[list[Place]] = [*ASKING, ("prometheus 2.42", "file"), ("prometheus 3.5", "file")]
DIRECT: Final = [place for place in PLACES if place not in RELAYED]
UPS: Final = 'up{job="kamal"}'
PATIENCE: Final = 90


class Town(NamedTuple):
    """The consumers after a deploy of every role."""

    server: Server
    consumers: dict[Place, Consumer]


def start(engine: Engine, answer: Path, version: str, service: str, role: str) -> str:
    """A container as Kamal starts it; its id."""
    labels = {"service": service, "role": role, "destination": "", "prometheus.port": "9394"}
    labels |= ROLES[service, role]
    name = f"{re.sub('[^a-z]+', '-', service)}-{role}-{version}"
    mount = [f"--volume={answer}:/bin/answer:ro"] if role == "job" else []
    return engine.docker(
        *("run", "--detach", "--network=kamal", "--restart=unless-stopped", f"--name={name}"),
        *(f"--label={key}={value}" for key, value in labels.items()),
        *(*mount, f"consumed:{version}", "/bin/app", role),
    ).strip()


def wait_until_it_listens(engine: Engine, container: str) -> None:
    """Kamal, too, stops the old one only when the new one is ready."""
    form = "{{.NetworkSettings.Networks.kamal.IPAddress}}"
    address = engine.docker("inspect", "--format", form, container).strip()

    def listens() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((address, 9394)) == 0

    wait_until(listens, 10, f"{container} to listen")


def expected(version: str) -> dict[str, str]:
    return {f"{service} {role}": f"{role} {version}" for service, role in UP}


def has(consumer: Consumer, version: str) -> bool:
    """Whether it has scraped this version of every role that is up, and tried the one that is not.

    kamal-sd's own metrics are scraped at another time than the apps'.
    """
    return (
        consumer.versions() == expected(version)
        and consumer.number_of(UPS) == len(ROLES)
        and consumer.number_of(f'kamal_sd_slot_info{{version="{version}"}}') == len(ROLES)
    )


def wait_for(town: Town, version: str) -> None:
    try:
        wait_until(
            lambda: all(has(consumer, version) for consumer in town.consumers.values()),
            PATIENCE,
            f"every consumer to have scraped {version}",
        )
    except LabError as error:
        late = {
            " by ".join(place): consumer.versions()
            for place, consumer in town.consumers.items()
            if not has(consumer, version)
        }
        raise LabError(f"{error}; late are {json.dumps(late, indent=1)}") from None


@pytest.fixture(scope="module")
def town(world: World) -> Iterator[Town]:
    engine = world.engine
    engine.remove_containers()
    for version in ("v1", "v2"):
        image.build(engine, f"consumed:{version}", version, drain=2)
    if not engine.docker("network", "ls", "-q", "--filter", "name=^kamal$"):
        engine.docker("network", "create", "kamal")
    answer = world.folder("answer") / "answer"
    answer.write_text(ANSWER)
    answer.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(engine.remove_containers)
        old = [start(engine, answer, "v1", *role) for role in ROLES]
        server, file = stack.enter_context(kamal_sd(world, SETTINGS))
        wait_until(lambda: len(server.targets()) == len(ROLES), 10, "kamal-sd to know every role")
        consumers = Consumers(world, server, file, stack)
        found = Town(server, {place: consumers.start(*place) for place in PLACES})
        wait_for(found, "v1")
        for role in ROLES:
            wait_until_it_listens(engine, start(engine, answer, "v2", *role))
        engine.docker("stop", "--time=10", *old)
        wait_for(found, "v2")
        yield found


def plain_labels(service: str, role: str) -> dict[str, str]:
    return {
        "job": "kamal",
        "instance": f"{service}-{role}:9394",
        "service": service,
        "role": role,
    }


def in_order(labels: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(labels, key=lambda each: sorted(each.items()))


def of_each(places: Sequence[Place]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", places, ids=" by ".join)


@of_each(PLACES)
def test_each_role_is_scraped_once_with_the_plain_labels(town: Town, place: Place) -> None:
    consumer = town.consumers[place]
    assert in_order(each.labels for each in consumer.targets()) == in_order(
        plain_labels(*role) for role in ROLES
    )
    ups = [each["metric"] | {"up": each["value"][1]} for each in consumer.storage.query(UPS)]
    assert in_order(ups) == in_order(
        plain_labels(*role) | {"__name__": "up", "up": "01"[role in UP]} for role in ROLES
    )


@of_each(PLACES)
def test_kamal_sd_itself_is_scraped(town: Town, place: Place) -> None:
    """So that the version can be joined to each series, as the README has it."""
    consumer = town.consumers[place]
    [itself] = consumer.targets("kamal-sd")
    assert itself.labels == {"job": "kamal-sd", "instance": consumer.wire.address}
    joined = consumer.storage.query(
        f"{UPS} * on (service, role, destination, host) group_left (version) kamal_sd_slot_info"
    )
    assert in_order(each["metric"] for each in joined) == in_order(
        plain_labels(*role) | {"version": "v2"} for role in ROLES
    )


@of_each(PLACES)
def test_a_deploy_starts_no_series(town: Town, place: Place) -> None:
    storage = town.consumers[place].storage
    for name, roles in (("shop_requests_total", UP), ("up", ROLES)):
        assert in_order(storage.series(f'{name}{{job="kamal"}}')) == in_order(
            plain_labels(*role) | {"__name__": name} for role in roles
        )


@of_each(RELAYED)
def test_a_deploy_costs_no_scrape_through_the_relay(town: Town, place: Place) -> None:
    storage = town.consumers[place].storage
    least = storage.query(f"min_over_time({UPS}[10m])")
    assert in_order(each["metric"] for each in least if each["value"][1] == "1") == in_order(
        plain_labels(*role) for role in UP
    )


def test_the_relay_met_nothing_but_what_it_can_hand_over(town: Town) -> None:
    text = town.server.get("/metrics").text
    found = {
        (labels["service"], labels["role"], labels["result"])
        for labels in (
            dict(re.findall(r'(\w+)="([^"]*)"', line))
            for line in text.splitlines()
            if line.startswith("kamal_sd_relay_scrapes_total{")
        )
    }
    assert {(service, role) for service, role, result in found if result == "ok"} == UP
    assert {result for service, role, result in found if (service, role) in UP} <= {
        "ok",
        "handed-over",
    }


@of_each(RELAYED)
def test_the_relay_is_asked_at_its_steady_paths(town: Town, place: Place) -> None:
    consumer = town.consumers[place]
    at = f"{consumer.wire.url}/scrape/-"
    assert {role: consumer.url_of(*role) for role in ROLES} == {
        ("shop", "web"): f"{at}/shop/web/-/9394",
        ("shop", "job"): f"{at}/shop/job/-/9394?module=redis",
        ("shop", "secure"): f"{at}/shop/secure/-/9394",
        (ODD, "web"): f"{at}/~{ODD_HEX}/web/-/9394",
    }


@of_each(DIRECT)
def test_a_container_is_asked_where_its_role_says(town: Town, place: Place) -> None:
    consumer = town.consumers[place]
    urls = {role: re.sub(r"//[0-9.]+:", "//IP:", consumer.url_of(*role)) for role in ROLES}
    assert urls == {
        ("shop", "web"): "http://IP:9394/metrics",
        ("shop", "job"): "http://IP:9394/internal/metrics?module=redis",
        ("shop", "secure"): "https://IP:9394/metrics",
        (ODD, "web"): "http://IP:9394/metrics",
    }


@of_each(PLACES)
def test_a_roles_own_path_parameter_interval_and_timeout_reach_the_app(
    town: Town, place: Place
) -> None:
    storage = town.consumers[place].storage
    [asked] = {
        (each["path"], each["timeout"])
        for each in storage.series('shop_asked_info{job="kamal",role="job"}')
    }
    # The relay keeps a tenth of the time for the way back.
    assert asked == ("/internal/metrics?module=redis", "2" if place[1] == "relay" else "3")
    # 15 s is the job's interval, and 5 s the role's. Where the address changes, so does the rhythm.
    counts = {
        each["metric"]["role"]: float(each["value"][1])
        for each in storage.query(f"count_over_time({UPS.replace('}', ',service=`shop`}')}[32s])")
    }
    assert counts["web"] <= 4
    assert counts["job"] >= 5


@of_each(ASKING)
def test_what_it_sends_is_what_we_know_of_it(town: Town, place: Place) -> None:
    """If this fails, a consumer asks otherwise than it did: see whether it gets what it wants."""
    requests = town.consumers[place].wire.requests
    asked = [each.headers for each in requests if each.path.startswith("/targets")]
    for headers in asked:
        assert headers["accept"] == "application/json"
        assert headers["x-prometheus-refresh-interval-seconds"] == "15"
        assert headers.get("accept-encoding") == ("gzip" if "vmagent" in place[0] else None)
        assert "if-none-match" not in headers
    assert len(asked) >= 2
    scrapes = [each.headers for each in requests if each.path.startswith("/scrape/")]
    assert bool(scrapes) == (place[1] == "relay")
    for headers in scrapes:
        assert "text/plain" in headers["accept"]
        assert float(headers["x-prometheus-scrape-timeout-seconds"]) in {3, 10}


@pytest.mark.parametrize("version", ["2.42", "3.5"])
@pytest.mark.parametrize("name", ["prometheus.yml", "agent.yml", "file_sd.yml"])
def test_promtool_takes_the_files_as_they_are(version: str, name: str) -> None:
    options = ["--agent"] if name == "agent.yml" else []
    check_config(DEPLOY / "prometheus" / name, version, *options)


def test_vmagent_takes_its_file_as_it_is() -> None:
    vmagent.dry_run(DEPLOY / "vmagent/vmagent.yml")


def test_vmagent_refuses_a_refresh_interval(tmp_path: Path) -> None:
    """As the comment in its file says. If it does not any more, put one there."""
    text = (DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8")
    assert "refresh_interval: 15s" in text
    path = tmp_path / "vmagent.yml"
    path.write_text(text)
    with pytest.raises(LabError, match="field refresh_interval not found"):
        vmagent.dry_run(path)


def test_what_the_collector_gives_to_prometheus_code(town: Town, tmp_path: Path) -> None:
    """Its file without a Collector: what the prometheus receiver contains, in Prometheus itself."""
    text = (DEPLOY / "opentelemetry-collector/config.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    for pipeline in document["service"]["pipelines"].values():
        assert set(pipeline["receivers"]) == set(document["receivers"])
        assert set(pipeline["exporters"]) == set(document["exporters"])
    rules = yaml.safe_dump(document["receivers"]["prometheus"]["config"])
    assert "$$" in rules
    assert "$" not in rules.replace("$$", "")
    path = tmp_path / "prometheus.yml"
    path.write_text(at_loopback(town, rules.replace("$$", "$")))
    for version in ("2.42", "3.5"):
        check_config(path, version)
    jobs = [each["labels"]["job"] for each in promtool_check_sd(path, "kamal")]
    assert sorted(jobs) == sorted(f"{service}-{role}" for service, role in ROLES)


def test_what_alloy_gives_to_prometheus_code(town: Town, tmp_path: Path) -> None:
    """Its file without an Alloy: its arguments as those of Prometheus' scrape jobs."""
    blocks = alloy_blocks((DEPLOY / "alloy/config.alloy").read_text(encoding="utf-8"))
    jobs = []
    for (kind, _), arguments in blocks.items():
        if kind != "prometheus.scrape":
            continue
        job = dict(arguments)
        assert job.pop("forward_to") == "[prometheus.remote_write.storage.receiver]"
        targets = job.pop("targets")
        if match := re.fullmatch(r"discovery\.http\.(\w+)\.targets", targets):
            job["http_sd_configs"] = [blocks["discovery.http", match[1]]]
        else:
            [address] = re.findall(r'"__address__" = "([^"]+)"', targets)
            job["static_configs"] = [{"targets": [address]}]
        jobs.append(job)
    path = tmp_path / "prometheus.yml"
    path.write_text(at_loopback(town, yaml.safe_dump({"scrape_configs": jobs})))
    for version in ("2.42", "3.5"):
        check_config(path, version)
    found = [
        {name: value for name, value in each["labels"].items() if not name.startswith("__")}
        for each in promtool_check_sd(path, "kamal")
    ]
    assert in_order(found) == in_order(plain_labels(*role) for role in ROLES)
    assert blocks["prometheus.remote_write", "storage"] == {}
    assert blocks["endpoint", ""] == {"url": STORAGE}


def test_the_relabel_rules_of_which_the_page_says_that_they_work_do(
    town: Town, tmp_path: Path
) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", SWITCHING.read_text(encoding="utf-8"), re.DOTALL)
    kept = relabelled(town, tmp_path, **yaml.safe_load(example))
    assert in_order(kept) == in_order(
        plain_labels(*role) | {"component": role[1]} for role in ROLES if role[0] == "shop"
    )


def test_the_labels_of_docker_sd_are_there_that_the_page_says(town: Town, tmp_path: Path) -> None:
    container = ("id", "name", "network_mode", "label_service", "label_role")
    names = [f"container_{name}" for name in (*container, "label_prometheus_port")]
    names += ["network_name", "network_ip", "port_private"]
    rules = [
        {"source_labels": [f"__meta_docker_{name}"], "regex": ".+", "action": "keep"}
        for name in names
    ]
    assert len(relabelled(town, tmp_path, rules)) == len(ROLES)


def test_the_labels_of_docker_sd_are_not_there_that_the_page_says(
    town: Town, tmp_path: Path
) -> None:
    names = ("network_id", "network_scope", "network_internal", "network_ingress")
    labels = [f"__meta_docker_{name}" for name in names]
    rule = {"source_labels": labels, "separator": "", "regex": ".+", "action": "keep"}
    assert relabelled(town, tmp_path, [rule]) == []


def test_the_very_same_series_go_on_where_a_static_target_had_that_instance(
    town: Town, tmp_path: Path
) -> None:
    page = SWITCHING.read_text(encoding="utf-8")
    [drop] = re.findall(r"`(\{regex: .*?\})`", page)
    kept = relabelled(town, tmp_path, [yaml.safe_load(drop)])
    assert {"job": "kamal", "instance": "shop-web:9394"} in kept


def relabelled(
    town: Town, directory: Path, relabel_configs: Sequence[dict[str, Any]]
) -> list[dict[str, str]]:
    """The plain labels that a job with these rules gives to the targets that it keeps."""
    job = http_sd_job(f"{town.server.url}/targets", relabel_configs=relabel_configs)
    path = directory / "prometheus.yml"
    path.write_text(json.dumps({"scrape_configs": [job]}))
    found = (each["labels"] for each in promtool_check_sd(path, "kamal", wait=1))
    return [
        {name: value for name, value in labels.items() if not name.startswith("__")}
        for labels in found
        if labels
    ]


def alloy_blocks(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The arguments of each block, by its kind and label, as far as our file goes."""
    blocks: dict[tuple[str, str], dict[str, Any]] = {}
    open_blocks: list[tuple[str, str]] = []
    for line in re.sub(r"^\s*//.*", "", text, flags=re.MULTILINE).splitlines():
        if begin := re.fullmatch(r'\s*([a-z_.]+)(?: "(\w+)")? \{', line):
            open_blocks.append((begin[1], begin[2] or ""))
            blocks[open_blocks[-1]] = {}
        elif argument := re.fullmatch(r"\s*(\w+)\s+= (\S.*)", line):
            value = argument[2]
            is_plain = value in {"true", "false"} or value.startswith('"')
            blocks[open_blocks[-1]][argument[1]] = json.loads(value) if is_plain else value
        elif line.strip() == "}":
            open_blocks.pop()
        else:
            assert not line.strip(), line
    assert not open_blocks
    return blocks


def at_loopback(town: Town, text: str) -> str:
    return text.replace(KAMAL_SD, town.server.url.removeprefix("http://"))


def check_config(path: Path, version: str, *options: str) -> None:
    require("prometheus")
    program = "promtool" if version == "2.42" else sid_program("promtool")
    run([program, "check", "config", *options, path])
