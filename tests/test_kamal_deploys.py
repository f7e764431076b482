"""A life of deploys, by the real Kamal on a real engine, as a real Prometheus saw it.

Nothing is configured but the label `prometheus.port` of the two roles in deploy.yml.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple, Self

import pytest
from playwright.sync_api import expect

from tests import http_sd_reader
from tests.lab.browser import chromium
from tests.lab.kamal import App
from tests.lab.prometheus import Prometheus, http_sd_job, promtool_check_sd
from tests.lab.sd import REPOSITORY, Server
from tests.lab.world import World

pytestmark = pytest.mark.real

JOB = "kamal"
IP_JOB = "ip"
HOOK = REPOSITORY / "deploy/hooks/post-deploy"
SLOTS = ("shop-job", "shop-web")
SAMPLE_SECONDS = 0.05


class Sampler:
    """Reads /targets again and again, and keeps each picture that differs from the one before."""

    def __init__(self, server: Server) -> None:
        self.pictures: list[dict[str, str]] = []
        self._server = server
        self._stop = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            picture = versions(self._server)
            if not self.pictures or picture != self.pictures[-1]:
                self.pictures.append(picture)


def versions(server: Server) -> dict[str, str]:
    return versions_in(server.get("/targets").raise_for_status().content)


def versions_in(answer: bytes) -> dict[str, str]:
    """Each slot's version in the answer to Prometheus, with an asterisk where it is kept."""
    found: dict[str, str] = {}
    for target in http_sd_reader.read(answer):
        slot = target.labels["__meta_kamal_slot"]
        assert slot not in found, "two targets of a slot"
        assert target.series == plain_labels(slot)
        kept = target.labels["__meta_kamal_state"] == "exited"
        found[slot] = target.labels["__meta_kamal_version"] + ("*" if kept else "")
    return found


def plain_labels(slot: str) -> dict[str, str]:
    service, role = slot.split("-")
    return {"instance": f"{slot}:9394", "service": service, "role": role}


class Town(NamedTuple):
    """What the deploys happen in."""

    world: World
    app: App
    server: Server
    prometheus: Prometheus
    file: Path

    def expect(self, expected: dict[str, str]) -> None:
        """Waits until kamal-sd, Prometheus and the scraped apps themselves agree on it."""
        running = {slot: version for slot, version in expected.items() if "*" not in version}
        self.prometheus.wait_until(lambda: versions(self.server) == expected)
        self.prometheus.wait_until(lambda: versions_in(self.file.read_bytes()) == expected)
        self.prometheus.wait_until(
            lambda: (
                [target["labels"] for target in self._targets()]
                == [plain_labels(slot) | {"job": JOB} for slot in sorted(expected)]
            )
        )
        for job in (JOB, IP_JOB):
            self.prometheus.wait_until(lambda job=job: self._scraped(job) == running)  # type: ignore[misc]
        self.prometheus.wait_until(
            lambda: (
                {
                    (s["metric"]["job"], s["metric"]["instance"]): s["value"][1]
                    for s in self.prometheus.query("up")
                }
                == {
                    (job, f"{slot}:9394"): "01"[slot in running]
                    for slot in expected
                    for job in (JOB, IP_JOB)
                }
            )
        )
        for job in (JOB, IP_JOB):
            of_job = f'{{job="{job}"}}'
            assert len(self.prometheus.series(f"shop_requests_total{of_job}")) == len(SLOTS)
            assert len(self.prometheus.series(f"up{of_job}")) == len(SLOTS)

    def relayed(self) -> dict[str, float]:
        """By how they ended, the scrapes through the relay that there were so far."""
        found: dict[str, float] = {}
        for line in self.server.get("/metrics").text.splitlines():
            if line.startswith("kamal_sd_relay_scrapes_total{"):
                result = line.partition('result="')[2].partition('"')[0]
                found[result] = found.get(result, 0) + float(line.rpartition(" ")[2])
        return found

    def _targets(self) -> list[dict[str, Any]]:
        of_job = [each for each in self.prometheus.targets() if each["labels"]["job"] == JOB]
        return sorted(of_job, key=lambda each: each["labels"]["instance"])

    def _scraped(self, job: str) -> dict[str, str]:
        """The version behind each slot's series, in the app's own words.

        By IP it may be another role's for some seconds after a deploy: the engine gives a free one
        away at once, and Prometheus scrapes it under the old labels until it looks for targets.
        """
        info = f'shop_build_info{{job="{job}"}}'
        return {
            f"{labels['service']}-{labels['exported_role']}": labels["version"]
            for labels in (sample["metric"] for sample in self.prometheus.query(info))
            if labels["exported_role"] == labels["role"]
        }


@pytest.fixture
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        world = stack.enter_context(World())
        file = world.folder("targets") / "kamal-sd.json"
        server = stack.enter_context(
            Server(world.folder("sd"), world.docker.url, env={"KAMAL_SD_FILE_SD": str(file)})
        )
        jobs = (
            http_sd_job(f"{server.url}/targets", name=JOB),
            http_sd_job(f"{server.url}/targets?address=ip", name=IP_JOB),
        )
        prometheus = stack.enter_context(Prometheus(world.folder("prometheus"), *jobs))
        app = world.app(hooks={"post-deploy": HOOK}, variables={"KAMAL_SD_URL": server.url})
        yield Town(world, app, server, prometheus, file)


def test_a_life_of_deploys(town: Town) -> None:
    world, app = town.world, town.app
    for version in ("v1", "v2"):
        world.image(version)
    world.image("bad", "crashing")

    app.deploy("v1")
    town.expect({"shop-web": "v1", "shop-job": "v1"})
    _assert_promtool_agrees(town)

    with Sampler(town.server) as second_deploy, watching_page(town.server.url) as seen:
        output = app.deploy("v2")
        # The hook has waited for it, so there is nothing more to wait for.
        assert versions(town.server) == {"shop-web": "v2", "shop-job": "v2"}
        assert "Running /usr/bin/env .kamal/hooks/post-deploy" in output
        town.expect({"shop-web": "v2", "shop-job": "v2"})
    _assert_one_change_a_slot(second_deploy, "v1", "v2")
    _assert_the_page_went_along(seen)

    with Sampler(town.server) as same_again:
        app.deploy("v2")
        town.expect({"shop-web": "v2", "shop-job": "v2"})
    assert same_again.pictures == [{"shop-web": "v2", "shop-job": "v2"}]

    with Sampler(town.server) as rollback:
        app.rollback("v1")
        town.expect({"shop-web": "v1", "shop-job": "v1"})
    _assert_one_change_a_slot(rollback, "v2", "v1")

    with Sampler(town.server) as failed_deploy:
        output = app.deploy("bad", check=False)
    assert "ERROR" in output
    assert failed_deploy.pictures == [{"shop-web": "v1", "shop-job": "v1"}]

    # Through all of that, the relay's scrapes have neither missed nor met another role.
    assert set(town.relayed()) <= {"ok", "handed-over"}
    relay = f'job="{JOB}"'
    assert town.prometheus.values(f"min(min_over_time(up{{{relay}}}[10m]))") == [1]
    for sample in town.prometheus.query(f"last_over_time(shop_build_info{{{relay}}}[10m])"):
        assert sample["metric"]["exported_role"] == sample["metric"]["role"]

    with Sampler(town.server) as one_off:
        app.app_exec("job", "v1", "/bin/sleep 2")
    assert one_off.pictures == [{"shop-web": "v1", "shop-job": "v1"}]

    app.app_stop()
    town.expect({"shop-web": "v1*", "shop-job": "v1*"})

    app.app_start("v1")
    town.expect({"shop-web": "v1", "shop-job": "v1"})

    app.app_remove()
    town.expect({})


SLOTS_TABLE = "table[aria-labelledby=slots]"


@contextmanager
def watching_page(url: str) -> Iterator[list[str]]:
    """What the page's slots were, one after the other, without a reload. Filled in at the end."""
    seen: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#live")).to_have_text("live")
        page.evaluate(
            """() => {
              const slots = () => document.querySelector("table[aria-labelledby=slots]").innerText;
              window.seen = [slots()];
              const note = () => slots() === window.seen.at(-1) || window.seen.push(slots());
              new MutationObserver(note).observe(document.getElementById("main"),
                { subtree: true, childList: true, characterData: true });
            }"""
        )
        yield seen
        expect(page.locator(SLOTS_TABLE)).not_to_contain_text("next:")
        # A page that was loaded again has not seen anything.
        seen += page.evaluate("window.seen")


def _assert_the_page_went_along(seen: list[str]) -> None:
    """It showed the old version, then both generations of each role, and then the new one alone."""
    assert "v1" in seen[0]
    assert "next:" not in seen[0]
    for slot in SLOTS:
        both = [each for each in seen if f"next: {slot}-v2" in each]
        assert both
        assert all("deploying" in each for each in both)
    assert "next:" not in seen[-1]
    assert "v1" not in seen[-1].replace("took over from shop-web-v1", "")


def _assert_one_change_a_slot(sampler: Sampler, old: str, new: str) -> None:
    """Each slot went from the old version to the new one once, and was never without a target."""
    for slot in SLOTS:
        seen = [picture[slot] for picture in sampler.pictures]
        changes = [version for i, version in enumerate(seen) if i == 0 or version != seen[i - 1]]
        assert changes == [old, new]


def _assert_promtool_agrees(town: Town) -> None:
    found = promtool_check_sd(town.prometheus.config, JOB)
    labels = sorted((each["labels"] for each in found), key=lambda each: str(each["instance"]))
    assert [
        {name: value for name, value in each.items() if not name.startswith("__")}
        for each in labels
    ] == [plain_labels(slot) | {"job": JOB} for slot in SLOTS]
