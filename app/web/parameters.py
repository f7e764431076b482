"""What several paths share: query parameters, what is answered to those that none has, a header."""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request
from fastapi.responses import PlainTextResponse, Response

from app import grammar
from app.discovery.http_sd import Filters

# A bracketed IPv6 address ends with its bracket where no port follows.
_HAS_PORT = re.compile(r":\d+$", re.ASCII)
_ZERO_QUALITY = re.compile(r"\s*q=0(\.0*)?\s*")

# An IPv6 address is a host's name, too. A comma stands between two of them.
_PLAIN_IN_A_HOST = ":"
UNLISTED_HEADER = "X-Kamal-SD-Unlisted"

# For the document: a text for people, and when to ask again, in seconds.
TEXT = {"text/plain": {"schema": {"type": "string"}}}
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "required": True}}

Values = Annotated[list[str], Query(default_factory=list)]


def authority_of(request: Request, port: int = 80) -> str:
    """Where the caller says that it reached us; empty where it says nothing that can be an address.

    `port` is meant where it names none. What stands in the header goes into the answer to this
    caller alone.
    """
    host = request.headers.get("host", "")
    try:
        return grammar.authority(host if _HAS_PORT.search(host) else f"{host}:{port}")
    except ValueError:
        return ""


def wants_text(request: Request) -> bool:
    """Whether the caller asks for a text for people."""
    accept = request.headers.get("accept", "")
    return "text/plain" in accept and "json" not in accept


def wants_gzip(request: Request) -> bool:
    """Whether the caller takes an answer that is compressed."""
    for item in request.headers.get("accept-encoding", "").lower().split(","):
        coding, _, parameters = item.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not _ZERO_QUALITY.fullmatch(parameters)
    return False


def filters_of(**wanted: list[str]) -> Filters:
    """The filters that were given."""
    return {name: frozenset(values) for name, values in wanted.items() if values}


def unlisted_header(hosts: Iterable[str]) -> dict[str, str]:
    """The header that names these hosts, percent-encoded; none where there are none."""
    names = ", ".join(quote(host, safe=_PLAIN_IN_A_HOST) for host in hosts)
    return {UNLISTED_HEADER: names} if names else {}


def refuse_unknown(request: Request, known: Collection[str]) -> Response | None:
    """An answer with a hint where the request has a parameter that is not known here."""
    for name in request.query_params:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
            text = f"unknown parameter {name[:80]!a}; {hint}\n"
            return PlainTextResponse(text, status_code=400)
    return None
