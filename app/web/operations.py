"""Health, readiness and metrics, where Prometheus' users look for them."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from app.metrics import CONTENT_TYPE, Metrics
from app.state import State


def router(state: State, metrics: Metrics) -> APIRouter:
    """The routes, over this state and its metrics."""
    routes = APIRouter(tags=["operations"], default_response_class=PlainTextResponse)

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
