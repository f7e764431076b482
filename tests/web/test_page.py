"""The page for people, as it is without scripts."""

from contextlib import closing
from typing import Final

import pytest

from app.discovery.history import Change, Entry
from app.model import Health
from tests.builders import NOW, WEB, container, labels, snapshot, stopped
from tests.discovery.test_aliases import on
from tests.lab.packages import require
from tests.lab.process import run
from tests.web.apps import Served
from tests.web.markup import Page
from tests.web.site import ELSEWHERE, Site, town
from tests.web.test_hostile import CASES, GOOD, evil

SLOTS, OTHERS = "Slots", "Containers that are no targets"
NONE: Final = "\N{EN DASH}"
STAYS: Final = "What is shown of it was so 5m ago, and its targets stay."
V1: Final = container("shop-web-v1")
V2: Final = container("shop-web-v2", ago=5.0, ip="172.18.0.6", health=Health.STARTING)
ENGINES: Final = [{"url": f"tcp://192.0.2.{n}:2375", "host": host} for n, host in enumerate("ab")]


def read(site: Site, path: str = "/") -> Page:
    answer = site.ask(path).raise_for_status()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page.read(answer.text)


def test_a_slot_says_who_stands_for_it() -> None:
    page = read(town())
    assert page.rows(SLOTS) == [
        ["blog-web", "ok", "v1", "16m", "172.18.0.7:9394", NONE],
        ["shop-job", "down", "v1", "1m", "shop-job.invalid:9394", NONE],
        [
            "shop-job-v1",
            "it has stopped and nothing took its place; its target is kept, and is down",
        ],
        ["shop-web", "ok", "v2", "16m", "172.18.0.5:9394", NONE],
        ["shop-web-staging", "ok", "v3", "16m", "172.18.0.6:9394", NONE],
    ]
    (title,) = page.all("title")
    assert title.text == "1 down, kamal-sd"


def test_a_deploy_shows_both_generations_and_what_is_waited_for() -> None:
    site = Site(snapshot(V1), engines=ELSEWHERE)
    site.state.publish(snapshot(V1, V2))
    current, candidate = read(site).rows(SLOTS)
    assert current[:5] == ["shop-web", "deploying", "v1", "16m", "172.18.0.5:9394"]
    assert current[5].startswith("deploy-began, 0s ago")
    assert candidate[:4] == ["next: shop-web-v2", "starting", "v2", "5s"]
    assert "until this one has run for 90 s" in candidate[4]
    (title,) = read(site).all("title")
    assert title.text == "kamal-sd"


def test_what_is_refused_stands_by_its_slot() -> None:
    page = read(Site(snapshot(container(labels=labels(port="1,1")))))
    row, refused = page.rows(SLOTS)
    assert row == ["shop-web", "refused", "v1", "16m", NONE, NONE]
    assert refused[:2] == ["shop-web-v1", "bad-endpoint"]
    assert "gives one number to two ports" in refused[2]


def test_health_is_said_where_a_container_has_one() -> None:
    healthy, unhealthy = (
        read(Site(snapshot(container(health=health)))).rows(SLOTS)[0][1]
        for health in (Health.HEALTHY, Health.UNHEALTHY)
    )
    assert (healthy, unhealthy) == ("ok healthy", "unhealthy")


def test_a_role_that_lacks_the_label_is_told_what_to_write() -> None:
    page = read(town())
    ((name, reason, why),) = page.rows(OTHERS)
    assert (name, reason) == ("blog-job-v1", "no-port")
    assert why.startswith("it names no metrics port")
    (shown,) = page.section(OTHERS).all("pre")
    assert "".join(shown.parts) == (
        'servers:\n  job:\n    labels:\n      prometheus.port: "9394"\n'
    )
    (button,) = page.section(OTHERS).all("button")
    assert button.attributes["data-copy"] == shown.attributes["id"]


@pytest.mark.parametrize(
    ("headers", "scheme", "authority"),
    [
        ({"Host": "sd.example:9889"}, "http", "sd.example:9889"),
        ({"Host": "sd.example"}, "http", "sd.example:80"),
        ({"Host": "[2001:db8::1]:9889"}, "http", "[2001:db8::1]:9889"),
        ({"Host": "<script>"}, "http", "kamal-sd:9889"),
    ],
)
def test_the_job_is_for_the_server_as_it_was_reached(
    headers: dict[str, str], scheme: str, authority: str
) -> None:
    text = "".join(Page.read(town().ask("/", headers).text)["job-text"].parts)
    assert text == (
        "scrape_configs:\n"
        "  - job_name: kamal\n"
        "    http_sd_configs:\n"
        f"      - url: {scheme}://{authority}/targets\n"
        "        refresh_interval: 15s\n"
        "  - job_name: kamal-sd\n"
        "    honor_labels: true\n"
        "    static_configs:\n"
        f'      - targets: ["{authority}"]\n'
    )


def test_behind_a_proxy_with_tls_the_job_has_its_scheme() -> None:
    with Served(V1) as served:
        for host, authority in (("sd.example", "sd.example:443"), ("sd:8443", "sd:8443")):
            with closing(served.connect()) as caller:
                caller.request("GET", "/", headers={"Host": host, "X-Forwarded-Proto": "https"})
                page = Page.read(caller.getresponse().read().decode())
            text = "".join(page["job-text"].parts)
            assert f"- url: https://{authority}/targets\n" in text
            assert (
                f'    scheme: https\n    static_configs:\n      - targets: ["{authority}"]' in text
            )


def test_an_engine_that_is_lost_is_said_above_all_else() -> None:
    lost = snapshot(V1, host="a", listed_at=NOW - 300, lost_at=NOW - 200, error="refused")
    never = snapshot(host="b", listed_at=None, error="")
    page = read(Site(lost, never, engines=ENGINES))
    banners = [each.text for each in page.all("p") if each.attributes.get("class") == "banner"]
    assert banners == [
        f"The engine of a is not heard: refused. {STAYS}",
        "The engine of b is not heard. Nothing is known of it yet.",
    ]
    assert page.rows("Engines") == [
        ["a", "down", "5m ago", "1", "0 times", "refused"],
        ["b", "down", "never", "0", "0 times", NONE],
    ]
    assert "not heard" not in read(town())["main"].text


def test_the_last_events_are_shown_together_and_in_their_slot() -> None:
    history = (
        Entry(NOW - 90, "", WEB, Change.DEPLOY_FAILED, "v2", "v2 is gone"),
        Entry(NOW - 60, "", WEB, Change.TOOK_OVER, "v3", "v3 took over"),
        *(Entry(NOW - 30, "", None, Change.ENGINE_HEARD, detail=f"{n}") for n in range(40)),
        Entry(NOW - 10, "", None, Change.ENGINE_LOST, detail="it is not heard"),
    )
    site = Site(snapshot(V1), history=history)
    page = read(site)
    slot = page["past::shop-web"]
    assert slot.text == "took-over, 1m ago 1m ago v3 took over 1m ago v2 is gone"
    assert [each.attributes.get("class") for each in slot.all("li")] == [None, "trouble"]
    events = [each.text for each in page.section("What happened").all("li")]
    assert len(events) == 30
    assert events[0] == "10s ago engine: it is not heard"
    (time, *_) = page.section("What happened").all("time")
    assert time.attributes["datetime"] == "2027-01-15T07:59:50Z"
    filtered = read(site, "/?q=shop").section("What happened").all("li")
    assert [each.text for each in filtered] == [
        "1m ago shop-web: v3 took over",
        "1m ago shop-web: v2 is gone",
    ]


def test_an_alias_to_which_others_answer_is_said() -> None:
    stranger = container("other", labels={}, networks=on("shop-web"))
    web = container(networks=on("shop-web"))
    site = Site(snapshot(web, stranger), aliases={"verify": True}, defaults={"alias": "{slot}"})
    (said,) = read(site).section("Alias conflicts").all("li")
    assert said.text.startswith("shop-web on the network kamal is answered by")
    assert "Alias conflicts" not in read(town())["main"].text


@pytest.mark.parametrize(
    ("query", "slots", "others"),
    [
        ("", 5, 1),
        ("?q=BLOG", 1, 1),
        ("?q=172.18", 0, 0),
        ("?reason=kept", 2, 0),
        ("?reason=no-port", 0, 1),
        ("?q=shop&reason=current", 2, 0),
        ("?host=elsewhere", 0, 0),
        ("?q=%3Cscript%3E&reason=%22%3E&host=%27", 0, 0),
    ],
)
def test_filters(query: str, slots: int, others: int) -> None:
    page = read(town(), f"/{query}")
    assert len(page.rows(SLOTS)) == slots
    assert len(page.rows(OTHERS)) == others
    all_of_it = [each for each in page.all("a") if each.text == "Show all"]
    assert len(all_of_it) == bool(query)


def test_the_form_has_what_was_asked_for_and_links_keep_it() -> None:
    page = read(town(), "/?q=blog+%26&reason=no-such")
    (field,) = (each for each in page.all("input") if each.attributes["name"] == "q")
    assert field.attributes["value"] == "blog &"
    chosen = [each.text for each in page.all("option") if "selected" in each.attributes]
    assert chosen == ["no-such"]
    page = read(town(), "/?q=blog")
    (link,) = page.section(OTHERS).all("a")
    assert link.attributes["href"] == "?q=blog&reason=no-port"
    page = read(Site(snapshot(V1, host="a"), snapshot(host="b"), engines=ENGINES), "/?q=shop")
    links = [each.attributes["href"] for each in page.section("Engines").all("a")]
    assert links == ["?q=shop&host=a", "?q=shop&host=b"]
    assert {"a", "b"} < {each.text for each in page.all("option")}


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (Site(snapshot()), ["No role is a target yet.", "None yet.", "No container is seen."]),
        (Site(snapshot(V1)), ["Every container that is seen is a target.", "Nothing yet."]),
    ],
)
def test_what_is_empty_says_so(site: Site, words: list[str]) -> None:
    text = read(site)["main"].text
    assert all(each in text for each in words)
    assert "No slot passes the filter." in read(Site(snapshot(V1)), "/?q=x")["main"].text


@pytest.mark.parametrize(("place", "text"), CASES)
def test_what_labels_say_is_inert(place: str, text: str) -> None:
    site = Site(snapshot(evil(place, text), GOOD), container_labels=["team"])
    site.state.publish(snapshot(GOOD))
    site.state.publish(snapshot(evil(place, text), GOOD))
    page = read(site)
    assert "good-web" in page.section(SLOTS).text
    for each in page.all():
        for value in each.attributes.values():
            assert value.isprintable()
            assert len(value) < 10_000


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '" onfocus="alert(1)', "'><b>"])
def test_what_a_caller_says_is_inert(text: str) -> None:
    site = town()
    for name in ("q", "host", "reason"):
        query = str(site.ask("/").request.url.copy_with(params={name: text}).query, "ascii")
        page = read(site, f"/?{query}")
        assert text in [each.attributes.get("value") for each in page.all()] or name == "host"


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/icon.svg"])
def test_nothing_is_loaded_from_elsewhere_or_run(path: str) -> None:
    answer = town().ask(path)
    policy = dict(
        each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";")
    )
    assert policy.pop("default-src") == "'none'"
    assert set(policy.values()) == {"'self'", "'none'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "//" not in answer.text.replace("// ", "").replace("http://kamal-sd", "").replace(
        "http://www.w3.org/2000/svg", ""
    )


def test_its_links_lead_somewhere() -> None:
    site = town()
    page = read(site)
    links = [each.attributes.get("href") or each.attributes.get("src") for each in page.all()]
    assert {"targets", "explain", "metrics", "openapi.json", "page.css", "page.js"} < set(links)
    for link in links:
        if link and not link.startswith("#"):
            assert site.ask(f"/{link}").status_code == 200, link


def test_it_is_compressed_for_whoever_takes_that() -> None:
    site = town()
    plain, small = site.ask("/"), site.ask("/", {"Accept-Encoding": "gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert small.text == plain.text
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == small.headers["vary"] == "Accept-Encoding"


def test_it_answers_to_a_head_and_to_nothing_else() -> None:
    site = town()
    for path in ("/", "/page.css"):
        assert site.ask(path, method="HEAD").status_code == 200
        assert site.ask(path, method="POST").status_code == 405
    for path in ("/page.html", "/assets/page.js", "/page.js/x", "/..%2fpage.py"):
        assert site.ask(path).status_code == 404


def test_1000_slots_are_a_page_of_bounded_weight() -> None:
    many = [
        container(f"shop{n}-web-v1", ip=f"172.18.{n // 250}.{n % 250}", labels=labels(f"shop{n}"))
        for n in range(1000)
    ]
    site = Site(snapshot(*many))
    page = read(site)
    assert len(page.rows(SLOTS)) == 1000
    assert len(site.ask("/").content) < 600_000
    assert len(page.all()) < 12_000


@pytest.mark.real
def test_tidy_finds_nothing_amiss_with_it() -> None:
    require("tidy")
    site = Site(snapshot(V1), engines=ELSEWHERE)
    site.state.publish(snapshot(V1, V2, stopped("shop-job-v1", 60.0, labels=labels(role="job"))))
    for each in (site, town()):
        # It exits with 1 where there is a warning, and with 2 at an error.
        run(
            ["tidy", "-quiet", "-errors", "--drop-empty-elements", "no"], data=each.ask("/").content
        )
