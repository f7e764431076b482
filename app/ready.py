"""An answer whose bytes are there, which the app may hand to the protocol in one message.

ASGI takes an answer apart, its headers one by one, and has it put together again. Where that costs
more than everything else, a server may offer an extension
(https://asgi.readthedocs.io/en/latest/extensions.html), and this is ours: where `EXTENSION` is
among the scope's, one message of `TYPE` is a whole answer.
"""

from collections.abc import Iterable
from typing import Any, Final

EXTENSION: Final = "kamal_sd.ready"
TYPE: Final = "kamal_sd.response.ready"


def head(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The lines of these headers."""
    return b"".join(b"%s: %s\r\n" % header for header in headers)


def message(status: int, head: bytes, body: bytes) -> dict[str, Any]:
    """The answer. `head` has the lines of the headers, each with its CR LF, the length's, too."""
    return {"type": TYPE, "status": status, "head": head, "body": body}
