"""Published ports as real engines list them, at every recorded instant of the real deploys."""

import pytest

from app.model import Kind, Reason
from app.settings import Settings
from tests.test_recordings import STAGES, replay

# Kamal booted its proxy with --publish-host-ip 127.0.0.1; the apps publish nothing.
SETTINGS = Settings.model_validate(
    {
        "engines": [{"url": "unix:///recorded.sock", "address": "192.0.2.10"}],
        "defaults": {"address": "published"},
        "proxy": {"metrics_port": 80},
    }
)


@pytest.mark.parametrize(("recorder", "stage"), STAGES)
def test_what_only_the_host_itself_reaches_is_never_served(recorder: str, stage: str) -> None:
    refused: set[Kind] = set()
    for instant in replay(recorder, stage, SETTINGS):
        for each in instant.decisions:
            if each.target:
                assert each.reason is Reason.KEPT
            elif each.reason is Reason.NO_ADDRESS and each.kind is Kind.PROXY:
                assert "its port 80 is published on 127.0.0.1 only" in each.detail
                refused.add(each.kind)
            elif each.reason is Reason.NO_ADDRESS:
                assert "its port 9394 is not published on the host; add options" in each.detail
                refused.add(each.kind)
    # Before the first deploy there is nothing.
    assert refused == (set() if stage == "00-before" else {Kind.APP, Kind.PROXY})
