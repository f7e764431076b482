"""Whatever is asked, the answers are as the document at /openapi.json has them."""

from concurrent.futures import Future
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.schemas import OpenApiSchema

from app.access import Access, Token, digest
from app.model import Snapshot
from app.state import State
from app.web import create_app, wait
from app.web_config import ALL_RIGHTS
from tests.builders import NOW, settings, snapshot
from tests.web.site import ELSEWHERE, TOWN

QUICK = hypothesis.settings(
    max_examples=20,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
AUTHORIZATION = {"Authorization": "Bearer of-a-test"}
ACCESS = Access(tokens=(Token(digest(b"of-a-test"), ALL_RIGHTS),))


def _document(*snapshots: Snapshot, access: Access | None = None, **given: Any) -> OpenApiSchema:
    state = State(snapshots, settings(engines=ELSEWHERE, **given), clock=lambda: NOW)
    app = create_app(state, _reload, (lambda: access) if access else None)
    # A stream of events ends at once.
    app.state.ending.set()
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers=AUTHORIZATION)


def _reload() -> Future[str]:
    taken = Future[str]()
    taken.set_result("")
    return taken


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "_LONGEST_SECONDS", 0.001)


UNLISTED = _document(Snapshot(""))
LISTED = _document(snapshot(*TOWN), reload={"http": True})
GUARDED = _document(snapshot(*TOWN), access=ACCESS)


def _validate(case: "schemathesis.Case[Any]") -> None:
    # Where there is nothing to serve the answer is a 5xx, which is in the document, as all are.
    case.call_and_validate(excluded_checks=[not_a_server_error], headers=AUTHORIZATION)


@UNLISTED.parametrize()
@QUICK
def test_before_the_first_list(case: "schemathesis.Case[Any]") -> None:
    _validate(case)


@LISTED.parametrize()
@QUICK
def test_with_targets(case: "schemathesis.Case[Any]") -> None:
    _validate(case)


@GUARDED.parametrize()
@QUICK
def test_where_a_token_is_needed(case: "schemathesis.Case[Any]") -> None:
    _validate(case)
