"""GET /: everything that is known, for people. It works without scripts, and is live with them."""

import gzip
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from app import __version__
from app.discovery.endpoint import Caller
from app.discovery.explain import EntryDocument, ExplainDocument, explain, place_of
from app.discovery.history import Change
from app.discovery.overview import Overview, age, overview, passing
from app.state import State
from app.view import View
from app.web.parameters import authority_of, wants_gzip
from app.web.shared import Workshop

# Nothing is loaded from elsewhere, and nothing that a label says can run.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_ASSETS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_JOB = """\
scrape_configs:
  - job_name: kamal
    http_sd_configs:
      - url: {scheme}://{authority}/targets
        refresh_interval: 15s
  - job_name: kamal-sd
    honor_labels: true
    scheme: {scheme}
    static_configs:
      - targets: ["{authority}"]
"""
# So many of the last events are shown together; a slot's own row has all of its.
_MOST_EVENTS = 30


def router(state: State, workshop: Workshop) -> APIRouter:
    """The page and what it loads, over this state."""
    routes = APIRouter(include_in_schema=False)
    environment = Environment(
        loader=PackageLoader("app.web", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")

    def render(view: View, caller: Caller, now: float, job: str, **filters: str) -> str:
        decisions = view.decisions_for(caller)
        document = explain(view.snapshots, decisions, now, view.conflicts, view.history)
        whole = overview(document)
        host, reason = filters["host"], filters["reason"]
        shown = passing(whole, text=filters["q"], host=host, reason=reason)
        return template.render(
            whole=whole,
            shown=shown,
            counts=_counts(whole),
            document=document,
            events=_events(document, shown if any(filters.values()) else None)[:_MOST_EVENTS],
            filters=filters,
            hosts=sorted({each["host"] for each in document["engines"]} | {host} - {""}),
            reasons=sorted({each["reason"] for each in document["decisions"]} | {reason} - {""}),
            link=cache(lambda **changed: _query(filters | changed)),
            job=job,
            version=__version__,
            age=lambda since: age(now - since),
            utc=cache(_utc),
            kinds={"ok": "good", "deploying": "busy"},
            place_of=place_of,
            troubles=frozenset(change for change in Change if change.is_trouble),
        )

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request, q: str = "", host: str = "", reason: str = "") -> Response:
        view, now, job = state.view, state.now(), _job(request)
        caller = view.less_what_changes_nothing(Caller(authority=authority_of(request)))
        is_gzipped = wants_gzip(request)

        def make() -> bytes:
            text = render(view, caller, now, job, q=q, host=host, reason=reason).encode()
            return gzip.compress(text, 1, mtime=0) if is_gzipped else text

        name = ("page", caller, job, q, host, reason, is_gzipped)
        # The ages on it grow by the second.
        body = await workshop.made(name, (view, int(now)), make)
        headers = {**_HEADERS, "Vary": "Accept-Encoding"}
        if is_gzipped:
            headers["Content-Encoding"] = "gzip"
        return HTMLResponse(body, headers=headers)

    for name, media_type in _ASSETS.items():
        routes.api_route(f"/{name}", methods=["GET", "HEAD"])(_asset(name, media_type))
    return routes


def _utc(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _counts(whole: Overview) -> dict[str, int]:
    """How many slots are in which status, the good ones last."""
    found = Counter((row.is_well, row.status) for row in whole.rows)
    return {status: count for (_, status), count in sorted(found.items())}


def _events(document: ExplainDocument, shown: Overview | None) -> list[EntryDocument]:
    """What happened to the slots that are shown; everything where all are."""
    if shown is None:
        return document["history"]
    places = {(row.host, row.slot) for row in shown.rows}
    return [each for each in document["history"] if (each["host"], each["slot"]) in places]


def _query(filters: dict[str, str]) -> str:
    return "?" + urlencode({name: text for name, text in filters.items() if text})


def _job(request: Request) -> str:
    """The Prometheus job that reads this server where the caller reached it."""
    scheme = request.url.scheme
    authority = authority_of(request, port=443 if scheme == "https" else 80)
    job = _JOB.format(scheme=scheme, authority=authority or "kamal-sd:9889")
    return job.replace("    scheme: http\n", "")


def _asset(name: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    content = resources.files("app.web").joinpath("assets", name).read_bytes()

    async def asset() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return asset
