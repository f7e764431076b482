"""Looking again and again."""

import threading
from collections.abc import Callable

import pytest

from app.polling import polling
from tests.web.apps import wait_for


def looks(look: Callable[[], None], times: int) -> list[None]:
    """How often it was called, until it was so often."""
    seen: list[None] = []

    def counted() -> None:
        seen.append(None)
        look()

    with polling(counted, 0.001, "a look"):
        assert "a look" in {thread.name for thread in threading.enumerate()}
        wait_for(lambda: len(seen) >= times)
    return seen


def test_it_looks_as_long_as_the_context_lasts() -> None:
    seen = looks(lambda: None, 3)
    counted = len(seen)
    assert "a look" not in {thread.name for thread in threading.enumerate()}
    assert len(seen) == counted


def test_a_look_that_fails_is_told_and_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no good")

    looks(fail, 3)
    assert "a look: looking failed" in caplog.messages
