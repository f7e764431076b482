"""Health, readiness, metrics and the landing page, where Prometheus' users look for them."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from app.metrics import CONTENT_TYPE, Metrics
from app.state import State

_LANDING_PAGE = """<!doctype html>
<html lang="en">
<title>kamal-sd</title>
<h1>kamal-sd</h1>
<p>Prometheus service discovery for apps deployed with Kamal.</p>
<ul>
<li><a href="targets">targets</a>: for http_sd_configs
<li><a href="explain">explain</a>: every container, and why it is a target or is none
<li><a href="metrics">metrics</a>
<li><a href="openapi.json">openapi.json</a>
</ul>
</html>
"""


def router(state: State, metrics: Metrics) -> APIRouter:
    """The routes, over this state and its metrics."""
    routes = APIRouter(tags=["operations"], default_response_class=PlainTextResponse)

    @routes.get("/", include_in_schema=False)
    async def landing_page() -> Response:
        return HTMLResponse(_LANDING_PAGE)

    @routes.get("/metrics")
    async def own_metrics() -> Response:
        """kamal-sd's own metrics, in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @routes.get("/-/healthy")
    async def healthy() -> str:
        """The process answers."""
        return "kamal-sd is healthy.\n"

    @routes.get("/-/ready", responses={503: {"description": "No list of containers yet."}})
    async def ready() -> Response:
        """`/targets` is served. An engine that is lost later does not change that.

        One of several that cannot be reached keeps it back for `startup_grace`.
        """
        if state.view.ready:
            return PlainTextResponse("kamal-sd is ready.\n")
        return PlainTextResponse("kamal-sd waits for its first list.\n", status_code=503)

    return routes
