"""Whose alias it was, at every recorded instant of the real deploys: written by hand from them."""

import pytest

from app.model import Reason
from app.settings import Settings
from tests.test_recordings import STAGES, replay

SETTINGS = Settings.model_validate(
    {
        "engines": [{"url": "unix:///recorded.sock"}],
        "aliases": {"verify": True},
        "defaults": {"address": "alias"},
        "roles": [{"role": "web", "alias": "shop-web"}, {"role": "job", "alias": "shop-job"}],
    }
)
# Destination production had no alias of its own for web, and inherited shop-web.
_INHERITED = {"shop-web"}
# `kamal app exec -r job` without --reuse starts a container with the role's options.
_ONE_OFF = {"shop-job"}
CONFLICTS = {
    "04x-rollback-unavailable": _INHERITED,
    "07-app-stop": _INHERITED,
    "08-app-start": _INHERITED,
    "09-app-exec": _ONE_OFF,
    "09c-app-exec-detach": _ONE_OFF,
    "10-accessory-boot": _INHERITED,
    "11-prod-first": _INHERITED,
    "12-prod-second": _INHERITED,
    "14-app-remove-prod": _INHERITED,
}
# Deploys, those that fail among them: both generations of a role answer for a while.
OVERLAPS = {
    "02-second-deploy": {"shop-web", "shop-job"},
    "03-redeploy-same-version": {"shop-web", "shop-job"},
    "04-rollback": {"shop-web", "shop-job"},
    "05-failed-web": {"shop-web"},
    "06-failed-job": {"shop-web", "shop-job"},
}
# What the conflict is over with: the one-off ended, web was stopped or removed.
ENDS_IN_PEACE = {"07-app-stop", "09-app-exec", "14-app-remove-prod"}


@pytest.mark.parametrize(("recorder", "stage"), STAGES)
def test_whose_alias_it_was(recorder: str, stage: str) -> None:
    conflicts: set[str] = set()
    overlaps: set[str] = set()
    last: set[str] = set()
    for instant in replay(recorder, stage, SETTINGS):
        last = {each.alias for each in instant.conflicts}
        conflicts |= last
        for decision in instant.decisions:
            assert decision.slot or decision.reason is not Reason.ALIAS_CONFLICT
            if "both answer to" in decision.detail:
                overlaps.add(decision.detail.rpartition(" ")[2])
            if decision.target and decision.reason is Reason.CURRENT:
                # Never an alias that somebody else answers to.
                assert decision.target.targets[0].partition(":")[0] not in last
    assert conflicts == CONFLICTS.get(stage, set())
    assert overlaps - conflicts == OVERLAPS.get(stage, set())
    if stage in ENDS_IN_PEACE:
        assert not last


def test_every_stage_of_these_stories_was_recorded() -> None:
    assert CONFLICTS.keys() | OVERLAPS.keys() <= {stage for _, stage in STAGES}
