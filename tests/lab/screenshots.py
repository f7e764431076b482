"""The page in the middle of a recorded deploy: docs/page-light.png and docs/page-dark.png."""

import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import ViewportSize, expect

from tests.lab.browser import chromium
from tests.lab.process import Process, free_port, listening, system_environment
from tests.lab.sd import REPOSITORY

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZE = ViewportSize(width=1000, height=620)


def main() -> None:
    port = free_port()
    listen = f"127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory() as name,
        Process(
            "kamal-sd",
            [sys.executable, "-m", "app", "demo", "--listen", listen],
            log=Path(name) / "log",
            env=system_environment(HOME=name, PYTHONPATH=str(REPOSITORY)),
            cwd=Path(name),
        ) as server,
        chromium() as browser,
    ):
        pages = [browser.new_page(viewport=SIZE, color_scheme=each) for each in SCHEMES]
        server.wait_ready(lambda: listening(port))
        for page in pages:
            page.goto(f"http://{listen}/")
        for scheme, page in zip(SCHEMES, pages, strict=True):
            expect(page.locator("#main")).to_contain_text("next: shop-job-v2", timeout=60_000)
            page.screenshot(path=REPOSITORY / "docs" / f"page-{scheme}.png")


if __name__ == "__main__":
    main()
