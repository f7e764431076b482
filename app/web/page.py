"""GET /: everything that is known, for people. It works without scripts, and is live with them."""

import gzip
from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.discovery.endpoint import Caller
from app.state import State
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


def router(state: State, workshop: Workshop) -> APIRouter:
    """The page and what it loads, over this state."""
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request, q: str = "", host: str = "", reason: str = "") -> Response:
        view, now, job = state.view, state.now(), _job(request)
        caller = view.less_what_changes_nothing(Caller(authority=authority_of(request)))
        is_gzipped = wants_gzip(request)

        def make() -> bytes:
            # jinja2 and the template take as long as a tenth of a start, and 3 MB.
            from app.web.rendering import render  # noqa: PLC0415

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
