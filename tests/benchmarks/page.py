"""The page with 1,000 slots beside one with 10: what a browser takes, in one run.

`python -m tests.benchmarks.page` prints the medians, and the ratio of the two.
"""

from collections.abc import Iterator
from statistics import median
from time import perf_counter

from playwright.sync_api import Browser, expect

from app.model import Container
from tests.benchmarks.machine import description
from tests.builders import container, labels
from tests.lab.browser import chromium
from tests.web.apps import Served

SIZES = (10, 1000)
ROUNDS = 8
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def slots(count: int) -> Iterator[Container]:
    for number in range(count):
        ip = f"172.18.{number // 250}.{number % 250}"
        yield container(f"shop{number}-web-v1", ip=ip, labels=labels(f"shop{number}"))


def once(browser: Browser, served: Served, version: int) -> tuple[float, float]:
    """The milliseconds to the first paint of a page, and from a change to its being shown."""
    # The page's own policy would refuse what is asked of it here.
    page = browser.new_page(bypass_csp=True)
    page.goto(f"http://{served.authority}/")
    page.wait_for_function(f"{PAINTED} !== undefined")
    painted = float(page.evaluate(PAINTED))
    expect(page.locator("#live")).to_have_text("live")
    page.wait_for_timeout(600)
    name = f"shop5-web-next{version}"
    began = perf_counter()
    served.looked(container(name, ago=5.0, ip="172.19.0.1", labels=labels("shop5")))
    page.wait_for_function(f"document.body.textContent.includes('next: {name}')")
    shown = (perf_counter() - began) * 1000
    page.close()
    return painted, shown


def main() -> None:
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    with chromium() as browser:
        for number in range(ROUNDS + 1):
            for size in SIZES:
                with Served(engines=[{"url": "tcp://192.0.2.1:2375", "host": "a"}]) as served:
                    served.begin_with(*slots(size))
                    figures = once(browser, served, number)
                if number:  # the first round warms up
                    found[size].append(figures)
    for what, text in description().items():
        print(f"{what}: {text}")
    print(f"Medians of {ROUNDS} rounds, interleaved.\n")
    print("| slots | first paint, ms | a change is shown after, ms |\n| ---: | ---: | ---: |")
    medians = {
        size: [median(column) for column in zip(*found[size], strict=True)] for size in SIZES
    }
    for size, (painted, shown) in medians.items():
        print(f"| {size} | {painted:.0f} | {shown:.0f} |")
    few, many = medians[SIZES[0]], medians[SIZES[1]]
    ratios = [b / a for a, b in zip(few, many, strict=True)]
    print(f"| ratio | {ratios[0]:.1f} | {ratios[1]:.1f} |")


if __name__ == "__main__":
    main()
