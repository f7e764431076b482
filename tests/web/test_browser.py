"""The page in a real browser: live, kept in hand, and for everybody."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, Request, ViewportSize, expect

from app.model import Container, Health
from app.web import events
from tests.builders import NOW, container, labels, snapshot, stopped
from tests.discovery.test_aliases import on
from tests.lab.browser import chromium
from tests.web.apps import NEW, OLD, Served, wait_for

pytestmark = pytest.mark.real

ENGINES: Final = [{"url": f"tcp://192.0.2.{n}:2375", "host": host} for n, host in enumerate("ab")]
CHECKED: Final[dict[str, Any]] = {
    "engines": ENGINES,
    "aliases": {"verify": True},
    "defaults": {"alias": "{slot}"},
}
PHONE: Final = ViewportSize(width=360, height=740)
DESK: Final = ViewportSize(width=1200, height=900)
CURRENT: Final = container(OLD)
NEXT: Final = container(NEW, ago=5.0, ip="172.18.0.6", health=Health.STARTING)
BLOG: Final = container("blog-web-v1", ip="172.18.0.7", labels=labels("blog"))
JOB: Final = container("blog-job-v1", ip="172.18.0.8", labels=labels("blog", "job", port=""))
LONG: Final = "a" * 60
# Everything that a page can have on it.
SCENE: Final = (
    *(CURRENT, NEXT, BLOG, JOB, container("foreign", labels={})),
    container("shop-cron-v1", labels=labels(role="cron"), health=Health.UNHEALTHY),
    container("two-web-v1", labels=labels("two", port="1,1")),
    container(f"{LONG}-web-{LONG}", ip="172.18.0.10", labels=labels(LONG)),
    container("mail-web-v1", labels=labels("mail"), networks=on("mail-web")),
    container("stranger", labels={}, networks=on("mail-web", ip="172.18.0.11")),
    stopped("shop-job-v1", 60.0, labels=labels(role="job")),
)
WCAG: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(**CHECKED) as running:
        yield running


class Visit:
    """A page that is open, and all that it asked for and complained of."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._asks)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _asks(self, request: Request) -> None:
        self.asked.append(request.url)

    def streams(self) -> int:
        """How often it has asked for the stream of events."""
        return self.asked.count(f"{self.origin}/events")

    def live(self) -> None:
        """Waits until the page says that it is."""
        expect(self.page.locator("#live")).to_have_text("live")

    def row(self, name: str) -> Any:
        """The row of that slot."""
        return self.page.locator(f'[id="slot:a:{name}"]')

    def check(self) -> None:
        """Fails where anything went elsewhere, or was refused by the page's own policy."""
        assert self.complaints == []
        assert [each for each in self.asked if not each.startswith(f"{self.origin}/")] == []


@contextmanager
def visiting(browser: Browser, served: Served, path: str = "/", **given: Any) -> Iterator[Visit]:
    origin = f"http://{served.authority}"
    context = browser.new_context(**given)
    try:
        visit = Visit(context.new_page(), origin)
        visit.page.goto(f"{origin}{path}")
        yield visit
    finally:
        context.close()


def opened(page: Page) -> None:
    """Opens all that can be."""
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")


def test_a_deploy_is_seen_without_loading_anew(browser: Browser, served: Served) -> None:
    served.begin_with(CURRENT, BLOG)
    with visiting(browser, served) as visit:
        visit.live()
        visit.page.evaluate("window.mark = 'the same page'")
        served.looked(NEXT)
        expect(visit.page.get_by_role("row", name="next: shop-web-v2")).to_be_visible()
        expect(visit.row("shop-web")).to_contain_text("deploying")
        expect(visit.row("shop-web").get_by_role("cell").nth(1)).to_have_text("v1")
        served.died(OLD)
        expect(visit.row("shop-web").get_by_role("cell").nth(1)).to_have_text("v2")
        expect(visit.row("shop-web")).to_contain_text("took-over")
        expect(visit.page.get_by_role("row", name="next:")).to_have_count(0)
        served.removed(NEW, OLD)
        expect(visit.row("shop-web")).to_have_count(0)
        expect(visit.page.locator("#main")).to_contain_text("was removed")
        assert visit.page.evaluate("window.mark") == "the same page"
        assert visit.streams() == 1
        visit.check()


def test_what_is_typed_opened_and_focused_stays(browser: Browser, served: Served) -> None:
    served.begin_with(CURRENT, BLOG, JOB)
    with visiting(browser, served) as visit:
        visit.live()
        page = visit.page
        field = page.get_by_role("searchbox")
        field.press_sequentially("web")
        expect(page.locator("#main")).not_to_contain_text("blog-job")
        assert page.url == f"{visit.origin}/?q=web"
        field.press("ArrowLeft")
        summary = visit.row("shop-web").locator("summary")
        page.evaluate(
            "window.row = document.getElementById('slot:a:shop-web');"
            "window.row.querySelector('details').open = true"
        )
        # One more before it, one more in it, and one less.
        served.looked(container("alpha-web-v1", ip="172.18.0.9", labels=labels("alpha")))
        expect(visit.row("alpha-web")).to_be_visible()
        expect(field).to_be_focused()
        expect(field).to_have_value("web")
        assert field.evaluate("each => each.selectionStart") == 2
        summary.focus()
        served.looked(NEXT)
        expect(visit.row("shop-web")).to_contain_text("deploying")
        served.removed("blog-web-v1")
        expect(visit.row("blog-web")).to_have_count(0)
        expect(summary).to_be_focused()
        expect(visit.row("shop-web").locator("details")).to_have_attribute("open", "")
        expect(visit.row("alpha-web").locator("details")).not_to_have_attribute("open", "")
        assert page.evaluate("window.row === document.getElementById('slot:a:shop-web')")
        expect(page.get_by_role("link", name="Show all")).to_be_visible()
        visit.check()


def test_a_link_in_a_row_keeps_its_focus(browser: Browser, served: Served) -> None:
    served.begin_with(CURRENT, JOB)
    with visiting(browser, served) as visit:
        visit.live()
        link = visit.page.get_by_role("link", name="no-port")
        link.focus()
        served.looked(container("a", labels={}))
        expect(visit.page.get_by_role("link", name="foreign")).to_be_visible()
        expect(link).to_be_focused()
        visit.check()


def test_many_changes_end_in_what_is_true(browser: Browser, served: Served) -> None:
    served.begin_with(CURRENT)
    with visiting(browser, served) as visit:
        visit.live()
        for number in range(60):
            one = container(f"n{number}-web-v1", labels=labels(f"n{number}"))
            served.looked(one)
            if number % 2:
                served.removed(one.name)
        expect(visit.page.locator('[id^="slot:"]')).to_have_count(31)
        identities = visit.page.locator('[id^="slot:"]').evaluate_all("all => all.map(e => e.id)")
        assert identities == sorted(identities)
        visit.check()


def test_a_keyboard_is_enough(browser: Browser, served: Served) -> None:
    served.begin_with(CURRENT, BLOG)
    with visiting(browser, served) as visit:
        visit.live()
        page = visit.page
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the slots")).to_be_focused()
        expect(page.get_by_role("link", name="Skip to the slots")).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(visit.row("blog-web").locator("summary")).to_be_focused()
        page.keyboard.press("Enter")
        expect(visit.row("blog-web").locator("details")).to_have_attribute("open", "")
        page.reload()
        for _ in range(6):
            page.keyboard.press("Tab")
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("blog")
        page.keyboard.press("Enter")
        expect(visit.row("shop-web")).to_have_count(0)
        expect(visit.row("blog-web")).to_be_visible()
        visit.check()


@pytest.mark.parametrize("has_clipboard", [True, False])
def test_what_is_to_be_written_elsewhere_is_copied(
    browser: Browser, served: Served, has_clipboard: bool
) -> None:
    served.begin_with(JOB)
    with visiting(browser, served) as visit:
        visit.live()
        page = visit.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=visit.origin)
        if not has_clipboard:
            # As on a page over http from another machine.
            page.evaluate("delete Navigator.prototype.clipboard")
        for what, words in (("the labels", "prometheus.port"), ("the job", served.authority)):
            opened(page)
            page.get_by_role("button", name=f"Copy {what}").click()
            expect(page.locator("#live")).to_have_text("copied")
            if has_clipboard:
                copied = page.evaluate("navigator.clipboard.readText()")
                assert copied in page.locator("pre").all_text_contents()
            else:
                page.get_by_role("searchbox").fill("")
                page.get_by_role("searchbox").press("Control+V")
                copied = page.get_by_role("searchbox").input_value()
                page.get_by_role("searchbox").fill("")
                expect(page.locator("pre")).to_have_count(2)
            assert words in copied
        visit.check()


def test_it_works_without_scripts(browser: Browser, served: Served) -> None:
    served.begin_with(CURRENT, BLOG, JOB)
    with visiting(browser, served, java_script_enabled=False) as visit:
        page = visit.page
        expect(page.locator("#live")).to_contain_text("as of 2027-01-15T08:00:00Z")
        visit.row("shop-web").locator("summary").click()
        expect(visit.row("shop-web").locator("details")).to_have_attribute("open", "")
        page.get_by_role("searchbox").fill("blog")
        page.get_by_role("button", name="Find").click()
        expect(visit.row("shop-web")).to_have_count(0)
        expect(visit.row("blog-web")).to_be_visible()
        page.get_by_role("link", name="no-port").click()
        expect(visit.row("blog-web")).to_have_count(0)
        expect(page.get_by_role("searchbox")).to_have_value("blog")
        page.get_by_text("What to write in deploy.yml").click()
        expect(page.locator("pre").first).to_be_visible()
        expect(page.get_by_role("button", name="Copy")).to_have_count(0)
        page.get_by_role("link", name="Show all").click()
        expect(visit.row("shop-web")).to_be_visible()
        visit.check()


def scene(served: Served) -> None:
    served.state.publish(snapshot(host="b", error="refused", listed_at=NOW - 500, lost_at=NOW))
    served.begin_with(*SCENE)


@pytest.mark.parametrize("path", ["/", "/?q=shop&reason=candidate", "/?q=nothing"])
def test_a_phone_has_no_need_to_scroll_sideways(
    browser: Browser, served: Served, path: str
) -> None:
    scene(served)
    with visiting(browser, served, path, viewport=PHONE) as visit:
        opened(visit.page)
        widths = visit.page.evaluate(
            "[document.documentElement.scrollWidth, document.body.scrollWidth]"
        )
        assert max(widths) <= PHONE["width"]
        visit.check()


@pytest.mark.parametrize("viewport", [DESK, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(
    browser: Browser, served: Served, scheme: str, viewport: ViewportSize
) -> None:
    scene(served)
    with visiting(browser, served, color_scheme=scheme, viewport=viewport) as visit:
        visit.live()
        page = visit.page
        opened(page)
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
        found = page.evaluate("tags => axe.run({runOnly: tags})", [*WCAG, "best-practice"])
        assert len(found["passes"]) > 20
        assert [
            (each["id"], node["html"], node["failureSummary"])
            for each in found["violations"]
            for node in each["nodes"]
        ] == []
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(23, 23, 26)"}[scheme]


def test_a_server_that_is_away_is_said(browser: Browser) -> None:
    with Served(CURRENT, **CHECKED) as served:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://{served.authority}/")
        expect(page.locator("#live")).to_have_text("live")
        served.end()
        expect(page.locator("#live")).to_contain_text("not live")
        expect(page.locator("#live")).to_have_class("lost")
        context.close()


def test_a_stream_that_was_refused_is_tried_again(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST_STREAMS", 0)
    with visiting(browser, served) as visit:
        expect(visit.page.locator("#live")).to_contain_text("not live")
        monkeypatch.setattr(events, "_MOST_STREAMS", 1)
        expect(visit.page.locator("#live")).to_have_text("live", timeout=10_000)
        assert visit.streams() == 2


def test_a_page_that_nobody_sees_listens_to_nothing(browser: Browser, served: Served) -> None:
    def look(hidden: bool) -> None:
        visit.page.evaluate(
            "hidden => { Object.defineProperty(document, 'hidden',"
            " { value: hidden, configurable: true });"
            " document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )

    with visiting(browser, served) as visit:
        visit.live()
        listeners = len(served.state._told)
        look(hidden=True)
        wait_for(lambda: len(served.state._told) == listeners - 1, "the stream to be closed")
        served.looked(CURRENT)
        look(hidden=False)
        expect(visit.row("shop-web")).to_be_visible()
        assert len(served.state._told) == listeners
        visit.check()


def many(number: int) -> list[Container]:
    return [
        container(f"shop{n}-web-v1", ip=f"172.18.{n // 250}.{n % 250}", labels=labels(f"shop{n}"))
        for n in range(number)
    ]


def test_with_1000_slots_a_deploy_changes_little_of_the_page(
    browser: Browser, served: Served
) -> None:
    served.begin_with(*many(1000))
    with visiting(browser, served) as visit:
        visit.live()
        expect(visit.page.locator('[id^="slot:"]')).to_have_count(1000)
        visit.page.evaluate(
            "window.added = 0; new MutationObserver(all => { for (const each of all)"
            " window.added += each.addedNodes.length; })"
            ".observe(document.getElementById('main'), { childList: true, subtree: true })"
        )
        served.looked(
            container("shop500-web-v2", ago=5.0, ip="172.19.0.1", labels=labels("shop500"))
        )
        expect(visit.row("shop500-web")).to_contain_text("deploying")
        expect(visit.page.get_by_role("row", name="next:")).to_have_count(1)
        assert 0 < visit.page.evaluate("window.added") < 60
        visit.check()
