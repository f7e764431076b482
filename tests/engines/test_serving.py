"""`kamal-sd serve` on each engine: what it asks, and what it serves while containers change."""

import json
import threading
import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest

from tests import http_sd_reader
from tests.engine.forwarder import Forwarder
from tests.engine.town import Sampler, assert_allowed, wait_for
from tests.engines.conftest import Says
from tests.engines.kinds import Kind
from tests.engines.street import HEALTH, Street, decisions, wait_for_decision
from tests.lab import image
from tests.lab.engine import Engine
from tests.lab.sd import Server
from tests.test_relay_deploys import PATH, Scraper, wait_for_scrape

pytestmark = pytest.mark.real

BURST: Final = 30
SURVIVORS: Final = 5


def served(server: Server) -> dict[str, str]:
    """The address of each role's target. Fails where a strict reader does."""
    content = server.get("/targets").raise_for_status().content
    return {each.labels["role"]: each.address for each in http_sd_reader.read(content)}


def test_api(kind: Kind, server: Server, forwarder: Forwarder, says: Says) -> None:
    """API that kamal-sd speaks"""
    assert server.ready()
    spoken = {urlsplit(line.split()[1]).path.split("/")[1] for line in forwarder.requests[1:]}
    assert forwarder.requests[0].startswith("GET /version ")
    assert spoken == {f"v{kind.api}"}
    says(kind.api)


def test_questions(street: Street, server: Server, forwarder: Forwarder) -> None:
    """Events are asked for by type and action, exec never; nothing is inspected"""
    street.run("v1")
    wait_for(lambda: served(server), "a target")
    street.engine.docker("exec", "shop-web-v1", "/bin/sleep", "0")
    assert_allowed(forwarder.requests)
    (asked,) = [line for line in forwarder.requests if "/events" in line]
    filters = json.loads(parse_qs(urlsplit(asked.split()[1]).query)["filters"][0])
    assert sorted(filters["type"]) == ["container", "network"]
    assert {"start", "die", "died", "kill", "rename", "health_status"} <= set(filters["event"])
    assert not [action for action in filters["event"] if "exec" in action]


def test_zero_configuration(street: Street, server: Server) -> None:
    """Zero configuration: the roles with a metrics port are targets, with steady labels"""
    web = street.run("v1")
    street.run("v1", "job", port="9394, puma=80")
    street.run("v1", "cron", port="")
    street.engine.docker(
        *("run", "--detach", "--network=kamal", "--name=shop-db", "--label=service=shop-db"),
        *("street:v1", "/bin/sleep", "60"),
    )
    wait_for(lambda: len(server.targets()) == 3, "three targets")
    found = http_sd_reader.read(server.get("/targets").content)
    assert sorted(tuple(sorted(each.series.items())) for each in found) == [
        (("instance", f"shop-{role}:{port}"), ("role", role), ("service", "shop"))
        for role, port in (("job", "80"), ("job", "9394"), ("web", "9394"))
    ]
    upstreams = {each["upstream"] for each in decisions(server).values() if each["upstream"]}
    assert f"{street.address(web)}:9394" in upstreams
    answer = server.get(PATH)
    assert answer.is_success
    assert 'version="v1"' in answer.text


def deploy(street: Street, server: Server, behaviour: image.Behaviour) -> list[str]:
    """What a scraper saw of a deploy that it asked through without a pause."""
    old = street.run("v1", behaviour=behaviour, drain=2)
    wait_for_scrape(server, "v1")
    with Scraper(server) as scraper:
        street.run("v2", behaviour=behaviour, drain=2)
        time.sleep(1)
        street.engine.docker("stop", "--time=10", old)
        # The address of the old one may be the next one's.
        street.run("v1", "job")
        time.sleep(1)
    assert scraper.count > 100
    return scraper.seen


def test_a_deploy(street: Street, server: Server) -> None:
    """A deploy through the relay costs no scrape"""
    assert deploy(street, server, "plain") == ["200 web v1", "200 web v2"]


def test_a_deploy_of_an_app_that_closes_its_port(
    kind: Kind, street: Street, server: Server, says: Says
) -> None:
    """The same for an app that closes its port two seconds before its end"""
    seen = deploy(street, server, "closing")
    if kind.is_podman:
        # Nothing tells that it was told to stop: see below.
        assert seen == ["200 web v1", "502 ", "200 web v2"]
        says("no: scrapes in these seconds are missed")
        return
    assert seen == ["200 web v1", "200 web v2"]


def test_a_candidate_that_fails(street: Street, server: Server) -> None:
    """A deploy that fails does not show"""
    street.run("v1")
    wait_for_scrape(server, "v1")
    with Scraper(server) as scraper:
        bad = street.run("v2", behaviour="crashing", restart="no")
        time.sleep(1)
        street.engine.docker("stop", "--time=5", bad)
        time.sleep(0.5)
    assert scraper.seen == ["200 web v1"]


def test_a_burst(street: Street, server: Server) -> None:
    """A burst of 30 starts and 25 kills ends exact, and stays so"""
    ids = [street.create("v1", f"r{number:02}", restart="no") for number in range(BURST)]
    starters = [
        threading.Thread(target=street.engine.docker, args=["start", *ids[part::4]])
        for part in range(4)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    wait_for(lambda: len(served(server)) == BURST, "all to be targets")
    street.engine.docker("kill", *ids[SURVIVORS:])
    wait_for(lambda: shown(server) == street.states(), "it to be exact")
    assert list(street.states().values()).count("exited") == BURST - SURVIVORS
    # A late list must not bring one back.
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        assert shown(server) == street.states()
    upstreams = {each["upstream"] for each in decisions(server).values() if each["upstream"]}
    assert upstreams == {f"{street.address(each)}:9394" for each in ids[:SURVIVORS]}


def shown(server: Server) -> dict[str, str]:
    return {key: each["state"] for key, each in decisions(server).items()}


def test_a_pause(street: Street, server: Server) -> None:
    """Pause and unpause are seen, and keep the target"""
    web = street.run("v1")
    wait_for_scrape(server, "v1")
    before = served(server)
    for command, there in (("pause", "paused"), ("unpause", "running")) * 3:
        street.engine.docker(command, web)
        wait_for(lambda to=there: shown(server) == {web: to}, there)  # type: ignore[misc]
        assert served(server) == before
    wait_for_scrape(server, "v1")


def test_a_rename(street: Street, server: Server) -> None:
    """A rename is seen"""
    web = street.run("v1")
    wait_for_decision(server, web, "its first name", lambda it: it["version"] == "v1")
    street.engine.docker("rename", web, "shop-web-v1_replaced_0123456789abcdef")
    wait_for_decision(server, web, "its new name", lambda it: "_replaced_" in it["container"])
    assert decisions(server)[web]["version"] == "v1"
    street.engine.docker("rename", web, "shop-web-v9")
    wait_for_decision(server, web, "its last name", lambda it: it["version"] == "v9")


def test_networks(street: Street, server: Server) -> None:
    """Leaving the network and joining it again are seen at once"""
    web = street.run("v1")
    for _ in range(3):
        wait_for_scrape(server, "v1")
        street.engine.docker("network", "disconnect", "kamal", web)
        wait_for(lambda: not served(server), "its leaving the network")
        street.engine.docker("network", "connect", "kamal", web)
        wait_for(lambda: served(server), "its coming back")
    wait_for_scrape(server, "v1")
    assert decisions(server)[web]["upstream"] == f"{street.address(web)}:9394"


def test_health(kind: Kind, street: Street, server: Server, says: Says) -> None:
    """What a HEALTHCHECK says is seen"""
    check = (f"--health-cmd={HEALTH}", "--health-interval=1s", "--health-retries=2")
    well = street.run("v1", "web", *check)
    ill = street.run("v1", "job", *check, behaviour="unhealthy")
    if kind.is_podman:
        # Nobody runs the checks without systemd, and the list would not tell.
        time.sleep(4)
        assert {decisions(server)[each]["health"] for each in (well, ill)} == {"none"}
        assert set(served(server)) == {"web", "job"}
        says("no: its list does not tell; both are targets all the same")
        return
    wait_for_decision(server, well, "healthy", lambda it: it["health"] == "healthy")
    wait_for_decision(server, ill, "unhealthy", lambda it: it["health"] == "unhealthy")
    # It is a label, and no filter.
    assert set(served(server)) == {"web", "job"}


def test_told_to_stop(kind: Kind, street: Street, server: Server, says: Says) -> None:
    """A container that was told to stop is known to be stopping while it drains"""
    web = street.run("v1", drain=4)
    wait_for_scrape(server, "v1")
    stopper = threading.Thread(target=street.engine.docker, args=["stop", "--time=20", web])
    stopper.start()
    heard = False
    while stopper.is_alive():
        each = decisions(server)[web]
        heard |= each["state"] == "running" and "was told to stop" in each["detail"]
        time.sleep(0.02)
    stopper.join()
    wait_for_decision(server, web, "its end", lambda it: it["state"] == "exited")
    assert heard is not kind.is_podman
    if kind.is_podman:
        says("no: `stop` is told at the end alone")


def test_a_signal_that_ends_nothing(street: Street, server: Server) -> None:
    """A signal that does not ask for the end (USR1) is not taken for one that does"""
    # The app's shell has no use for it, and the first process of a container is spared.
    web = street.run("v1")
    wait_for_scrape(server, "v1")
    street.engine.docker("kill", "--signal=USR1", web)
    time.sleep(1)
    assert decisions(server)[web]["state"] == "running"
    assert "was told to stop" not in decisions(server)[web]["detail"]


def test_a_restart_of_the_engine(kind: Kind, street: Street, server: Server, says: Says) -> None:
    """A restart of the engine in order, and one after a crash, lose no target"""
    street.run("v1", restart="always")
    street.run("v1", "job", restart="always")
    wait_for(lambda: set(served(server)) == {"web", "job"}, "both")
    engine = street.engine
    assert isinstance(engine, Engine)
    with Sampler(lambda: server.get("/targets").content) as sampler:
        for end in (engine.stop, engine.kill):
            end()
            wait_for(lambda: not engine_of(server)["up"], "the loss to be told")
            time.sleep(1)
            engine.start()
            wait_for(lambda: engine_of(server)["up"], "it to be heard again")
            wait_for(lambda: set(street.states().values()) == {"running"}, "both to run")
            wait_for_scrape(server, "v1")
    assert all(roles == {"web", "job"} for roles in sampler.roles())
    # It is heard again, and not only listed.
    street.run("v1", "cron")
    wait_for(lambda: "cron" in served(server), "events to be heard")
    if kind.is_podman:
        says("yes; its containers outlive it")


def engine_of(server: Server) -> dict[str, object]:
    (engine,) = server.get("/explain").raise_for_status().json()["engines"]
    found: dict[str, object] = engine
    return found


def test_removal(street: Street, server: Server) -> None:
    """A stop keeps the target, which is down; a removal ends it"""
    web = street.run("v1")
    wait_for_scrape(server, "v1")
    street.engine.docker("stop", "--time=5", web)
    wait_for_decision(server, web, "its stop", lambda it: it["reason"] == "kept")
    assert server.get(PATH).status_code == 503
    street.engine.docker("start", web)
    wait_for_scrape(server, "v1")
    street.engine.docker("rm", "--force", web)
    wait_for(lambda: not server.targets(), "its removal")
