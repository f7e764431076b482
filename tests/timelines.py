"""What every recorded stage must show, and when: written by hand from the recordings.

No program's output went into this file. It states the promises of the design for the real
deploys in `tests/recordings`, with the default settings (overlap_limit 90 s, keep_missing 1 h)
and without kamal-proxy's state file.

A stage begins with its first list: the step "start". Each further step is one change of the
whole picture, and begins with the container event that brings it. Between two steps, whatever
is listed, inspected or told, nothing changes. An event is spelled `Action NAME`, just as its
`Action` and `Actor.Attributes.name` have it; so a rename stands under the NEW name, and is a
step although the container is the same. No event that begins a step occurs twice in its stage
(the second would be "die NAME #2"), and time alone brings no step ("time: overlap_limit of
NAME"): two generations of a slot overlap for 13 s at most, and all was stopped a short while ago.

Both engines begin a step with the same event, although their neighbours differ: 20.10 sends
`die`, then `disconnect` and `stop`; 28.5 sends `disconnect`, `stop`, then `die`, within 30 ms.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Kind = Literal["kamal-proxy", "accessory", "one-off", "failed candidate"]


class Step(NamedTuple):
    """From `after` on, each slot's current container by its name of that moment, or KEPT."""

    after: str
    targets: Mapping[str, str]


KEPT: Final = "kept"
"""The slot has only stopped containers; its target stays, and reaches nobody (promise 3)."""

WEB: Final = "shop-web"
JOB: Final = "shop-job"
PROD_WEB: Final = "shop-web-production"
PROD_JOB: Final = "shop-job-production"


def _story(begin: Mapping[str, str], *changes: tuple[str, str, str | None]) -> tuple[Step, ...]:
    """Steps from the changes: (after, slot, its container now); None ends the slot."""
    steps = [Step("start", dict(begin))]
    for after, slot, now in changes:
        targets = {name: current for name, current in steps[-1].targets.items() if name != slot}
        steps.append(Step(after, targets if now is None else {**targets, slot: now}))
    return tuple(steps)


def _shop(version: str) -> dict[str, str]:
    return {WEB: f"shop-web-{version}", JOB: f"shop-job-{version}"}


_PRODUCTION: Final = {PROD_WEB: "shop-web-production-v2", PROD_JOB: "shop-job-production-v2"}


# --- deploys: the old one stays current until it dies, however long the new one has answered ---

_FIRST_DEPLOY = _story(
    {},
    ("start shop-web-v1", WEB, "shop-web-v1"),
    ("start shop-job-v1", JOB, "shop-job-v1"),
)


def _deploy(old: str, new: str) -> tuple[Step, ...]:
    """A deploy or a rollback, which first renames its version's stopped container: no step."""
    return _story(
        _shop(old),
        (f"die shop-web-{old}", WEB, f"shop-web-{new}"),
        (f"die shop-job-{old}", JOB, f"shop-job-{new}"),
    )


def _same_version(old_web: str, old_job: str) -> tuple[Step, ...]:
    """v2 over v2: the running one is renamed first, and gives its name to the new one."""
    return _story(
        _shop("v2"),
        (f"rename {old_web}", WEB, old_web),
        (f"die {old_web}", WEB, "shop-web-v2"),
        (f"rename {old_job}", JOB, old_job),
        (f"die {old_job}", JOB, "shop-job-v2"),
    )


def _failed_job(old: str) -> tuple[Step, ...]:
    """The job's candidate crash-loops, its incumbent never stops: job has no step at all.

    But web was deployed before job failed, and Kamal does not take it back: the old web is
    stopped, and `shop-web-badjob` IS current, rightly. That deploy leaves two versions.
    """
    return _story(_shop(old), (f"die shop-web-{old}", WEB, "shop-web-badjob"))


_PROD_FIRST = _story(
    # The production role inherits shop's alias and joins its service: another slot all the same.
    # It is a target when it runs; that the job gets healthy (1 s or 5 s later) changes nothing.
    # The prune of a stopped container in a slot with a running one changes nothing either.
    _shop("v2"),
    ("start shop-web-production-v1", PROD_WEB, "shop-web-production-v1"),
    ("start shop-job-production-v1", PROD_JOB, "shop-job-production-v1"),
)

_PROD_SECOND = _story(
    # The new job is healthy 4.7 s before the old one dies; the old one is healthy too: it stays.
    {**_shop("v2"), PROD_WEB: "shop-web-production-v1", PROD_JOB: "shop-job-production-v1"},
    ("die shop-web-production-v1", PROD_WEB, "shop-web-production-v2"),
    ("die shop-job-production-v1", PROD_JOB, "shop-job-production-v2"),
)


# --- stops: a slot is kept while one stopped container of it is left ---

_APP_STOP = _story(
    # The job slot holds the stopped `shop-job-badjob` too: that is not what is kept.
    {**_shop("v2"), **_PRODUCTION},
    ("die shop-web-v2", WEB, KEPT),
    ("die shop-job-v2", JOB, KEPT),
)

_APP_START = _story(
    # All of both slots was stopped seconds or minutes before the first list: kept. The same
    # containers come back; an address may be another (20.10's web, .7 before the stop, .3 now).
    {WEB: KEPT, JOB: KEPT, **_PRODUCTION},
    ("start shop-web-v2", WEB, "shop-web-v2"),
    ("start shop-job-v2", JOB, "shop-job-v2"),
)

_CRASH_RESTART = _story(
    # The process is killed, the engine restarts it 0.3 s later, on another address. In between
    # the container is `restarting`, the slot's others are stopped: kept.
    _shop("v2"),
    ("die shop-job-v2", JOB, KEPT),
    ("start shop-job-v2", JOB, "shop-job-v2"),
)

_STOPPED_PRODUCTION: Final = (
    # v1 of both is stopped already, and lives on for some 10 ms after v2 is destroyed: a slot
    # ends with v1.
    ("die shop-web-production-v2", PROD_WEB, KEPT),
    ("die shop-job-production-v2", PROD_JOB, KEPT),
)
_WEB_REMOVED: Final = ("destroy shop-web-production-v1", PROD_WEB, None)
_JOB_REMOVED: Final = ("destroy shop-job-production-v1", PROD_JOB, None)


# --- nothing happens to any target ---


def _steady(version: str, *, production: bool = False) -> tuple[Step, ...]:
    """A failed web deploy, `app exec`, an accessory, a rollback that finds nothing."""
    return _story({**_shop(version), **(_PRODUCTION if production else {})})


TIMELINES: Final[Mapping[str, Mapping[str, tuple[Step, ...]]]] = {
    "docker-20.10.24": {
        "00-before": _story({}),
        "01-first-deploy": _FIRST_DEPLOY,
        "02-second-deploy": _deploy("v1", "v2"),
        "03-redeploy-same-version": _same_version(
            "shop-web-v2_replaced_529c2e3bdf30ae58", "shop-job-v2_replaced_21a67719fddea642"
        ),
        # Recorded after stage 14: it goes back from v1 to v2.
        "04-rollback": _deploy("v1", "v2"),
        "04x-rollback-unavailable": _steady("v2", production=True),
        "05-failed-web": _steady("v2"),
        "06-failed-job": _failed_job("v2"),
        "07-app-stop": _APP_STOP,
        "08-app-start": _APP_START,
        "09-app-exec": _steady("v2"),
        "09b-app-exec-reuse": _steady("v2"),
        "09c-app-exec-detach": _steady("v2"),
        "10-accessory-boot": _steady("v2", production=True),
        "11-prod-first": _PROD_FIRST,
        "12-prod-second": _PROD_SECOND,
        "14-app-remove-prod": _story(
            {**_shop("v1"), **_PRODUCTION}, *_STOPPED_PRODUCTION, _JOB_REMOVED, _WEB_REMOVED
        ),
        "15-crash-restart": _CRASH_RESTART,
    },
    "docker-28.5.2": {
        "00-before": _story({}),
        "01-first-deploy": _FIRST_DEPLOY,
        "02-second-deploy": _deploy("v1", "v2"),
        "03-redeploy-same-version": _same_version(
            "shop-web-v2_replaced_d31cc453888f1b6a", "shop-job-v2_replaced_38d3387f549d7a53"
        ),
        "04-rollback": _deploy("v2", "v1"),
        "05-failed-web": _steady("v1"),
        "06-failed-job": _failed_job("v1"),
        "07-app-stop": _APP_STOP,
        "08-app-start": _APP_START,
        "09-app-exec": _steady("v2"),
        "09b-app-exec-reuse": _steady("v2"),
        "09c-app-exec-detach": _steady("v2"),
        "10-accessory-boot": _steady("v2", production=True),
        "11-prod-first": _PROD_FIRST,
        "14-app-remove-prod": _story(
            {**_shop("v1"), **_PRODUCTION}, *_STOPPED_PRODUCTION, _WEB_REMOVED, _JOB_REMOVED
        ),
    },
}


# --- who must never be a target ---

_PROXY: Final[dict[str, Kind]] = {"kamal-proxy": "kamal-proxy"}
_EXPORTER: Final[dict[str, Kind]] = {"shop-exporter": "accessory"}  # has prometheus.port: no role
_BAD: Final[dict[str, Kind]] = {"shop-web-bad": "failed candidate"}
_BADJOB: Final[dict[str, Kind]] = {"shop-job-badjob": "failed candidate"}


def _one_off(name: str) -> dict[str, Kind]:
    return {name: "one-off"}


NEVER: Final[Mapping[str, Mapping[str, Mapping[str, Kind]]]] = {
    # Engine directory -> stage -> name -> what it is; each of them is listed in that stage, and
    # no other container of these kinds is. By the rule no failed candidate ever becomes current:
    # `bad` runs 12 s beside a healthy incumbent, `badjob` (job) never longer than 0.2 s between
    # two crashes. Not failed in this sense is `shop-web-badjob`, see _failed_job.
    "docker-20.10.24": {
        "00-before": {},
        "01-first-deploy": _PROXY,
        "02-second-deploy": _PROXY,
        "03-redeploy-same-version": _PROXY,
        "04-rollback": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "04x-rollback-unavailable": _PROXY | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "05-failed-web": _PROXY | _BAD,
        "06-failed-job": _PROXY | _BAD | _BADJOB,
        "07-app-stop": _PROXY | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "08-app-start": _PROXY | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "09-app-exec": _PROXY | _BAD | _BADJOB | _one_off("shop-job-exec-v2-5e996c"),
        "09b-app-exec-reuse": _PROXY | _BAD | _BADJOB,
        "09c-app-exec-detach": _PROXY | _BAD | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "10-accessory-boot": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "11-prod-first": _PROXY | _BAD | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "12-prod-second": _PROXY | _BAD | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "14-app-remove-prod": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
        "15-crash-restart": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-da1040"),
    },
    "docker-28.5.2": {
        "00-before": {},
        "01-first-deploy": _PROXY,
        "02-second-deploy": _PROXY,
        "03-redeploy-same-version": _PROXY,
        "04-rollback": _PROXY,
        "05-failed-web": _PROXY | _BAD,
        "06-failed-job": _PROXY | _BAD | _BADJOB,
        "07-app-stop": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-b5460b"),
        "08-app-start": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-b5460b"),
        "09-app-exec": _PROXY | _BAD | _BADJOB | _one_off("shop-job-exec-v2-e66e54"),
        "09b-app-exec-reuse": _PROXY | _BAD | _BADJOB,
        "09c-app-exec-detach": _PROXY | _BAD | _BADJOB | _one_off("shop-job-exec-v2-b5460b"),
        "10-accessory-boot": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-b5460b"),
        "11-prod-first": (
            _PROXY | _EXPORTER | _BAD | _BADJOB | _one_off("shop-job-exec-v2-b5460b")
        ),
        "14-app-remove-prod": _PROXY | _EXPORTER | _BADJOB | _one_off("shop-job-exec-v2-b5460b"),
    },
}
