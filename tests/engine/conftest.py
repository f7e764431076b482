"""How long a death is believed against the lists, for tests that cannot wait or need not hurry."""

import pytest

from app.engine import ledger
from tests.engine.play import SOON


@pytest.fixture
def short_afterlife(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "AFTERLIFE", SOON)


@pytest.fixture
def long_afterlife(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "AFTERLIFE", 600.0)
