"""GET /: everything that is known, for people. It works without scripts, and is live with them."""

from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from app import __version__
from app.discovery.endpoint import Caller
from app.discovery.explain import explain, place_of
from app.discovery.overview import Overview, age, overview, passing
from app.state import State
from app.web.parameters import authority_of

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


def router(state: State) -> APIRouter:
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

    @routes.get("/")
    async def page(request: Request, q: str = "", host: str = "", reason: str = "") -> Response:
        view, now = state.view, state.now()
        decisions = view.decisions_for(Caller(authority=authority_of(request)))
        document = explain(view.snapshots, decisions, now, view.conflicts, view.history)
        whole = overview(document)
        text = template.render(
            whole=whole,
            shown=passing(whole, text=q, host=host, reason=reason),
            counts=_counts(whole),
            document=document,
            filters={"q": q, "host": host, "reason": reason},
            hosts=sorted({each["host"] for each in document["engines"]}),
            reasons=sorted({each["reason"] for each in document["decisions"]}),
            job_url=f"{request.url.scheme}://{authority_of(request) or 'kamal-sd:9889'}",
            version=__version__,
            age=lambda since: age(now - since),
            place_of=place_of,
        )
        return HTMLResponse(text, headers=_HEADERS)

    for name, media_type in _ASSETS.items():
        routes.get(f"/{name}")(_asset(name, media_type))
    return routes


def _counts(whole: Overview) -> dict[str, int]:
    """How many slots are in which status, the good ones last."""
    counts: dict[str, int] = {}
    for row in sorted(whole.rows, key=lambda row: (row.is_well, row.status)):
        counts[row.status] = counts.get(row.status, 0) + 1
    return counts


def _asset(name: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    content = resources.files("app.web").joinpath("assets", name).read_bytes()

    async def asset() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return asset
