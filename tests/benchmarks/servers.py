"""Others who serve bytes: raw ASGI and FastAPI on uvicorn as it is by itself, nginx; and wrk."""

import multiprocessing
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.lab.packages import require
from tests.lab.process import LabError, Process, free_port, listening, run, wait_until

CONNECTIONS: Final = 16
_JSON: Final = "application/json"
_NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; etag off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port}; root {folder};
    location /metrics {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
}}
"""


class Ask(NamedTuple):
    """What is asked for, and how."""

    path: str = "/targets"
    headers: Mapping[str, str] = {}


PLAIN: Final = Ask()


def raw(body: bytes) -> ASGIApp:
    """An app that answers everything with these bytes."""
    headers = [(b"content-type", _JSON.encode()), (b"content-length", b"%d" % len(body))]

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def route(body: bytes) -> ASGIApp:
    """The same with a route of FastAPI's."""
    app = FastAPI()

    @app.get("/targets")
    async def targets() -> Response:
        return Response(body, media_type=_JSON)

    return app


@contextmanager
def asgi(make: Callable[[bytes], ASGIApp], body: bytes) -> Iterator[str]:
    """Its URL, while it is served in a process of its own."""
    port = free_port()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(make, body, port), daemon=True)
    process.start()
    wait_until(lambda: listening(port), 20, "a server to listen")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.join()


def _serve(make: Callable[[bytes], ASGIApp], body: bytes, port: int) -> None:
    uvicorn.run(make(body), port=port, http="httptools", log_level="error", access_log=False)


@contextmanager
def nginx(folder: Path, files: Mapping[str, bytes], upstream: int = 9) -> Iterator[str]:
    """nginx's URL, while it serves these files, and /metrics of what listens at `upstream`."""
    require("nginx-light")
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream))
    process = Process("nginx", ["nginx", "-c", configuration], log=folder / "log")
    try:
        process.wait_ready(lambda: listening(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


def answers_a_second(
    url: str, ask: Ask = PLAIN, seconds: int = 2, *, all_good: bool = True
) -> float:
    """The good answers that wrk counts. Raises LabError where all should be good, and are not."""
    require("wrk")
    headers = [f"--header={name}: {value}" for name, value in ask.headers.items()]
    load = ["--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s"]
    said = run(["wrk", *load, "--timeout=60s", *headers, url + ask.path])
    bad = _number(r"Non-2xx or 3xx responses: (\d+)$", said)
    if all_good and (bad or "Socket errors" in said):
        raise LabError(f"{url}{ask.path} did not answer all: {said}")
    good = 1 - bad / max(1, _number(r"^ *(\d+) requests in ", said))
    return good * _number(r"^Requests/sec: +([\d.]+)$", said)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else 0.0
