"""Asks the engine's DNS for names, again and again, from the network namespace it is started in.

`python -m tests.benchmarks.asker NAME ...` prints a line a question: the time, the name, and the
addresses joined by commas, "-" for none, or "?" where nobody answered within two seconds.
"""

import socket
import struct
import sys
import time
from typing import Final

SAMPLING: Final = 0.02
"""The seconds from one sample of all names to the next."""

NONE: Final = "-"
SILENCE: Final = "?"

_ENGINE: Final = ("127.0.0.11", 53)
_HEAD: Final = struct.Struct(">6H")


def question(name: str, number: int) -> bytes:
    """A query for the IPv4 addresses of a name (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return _HEAD.pack(number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)


def addresses(query: bytes, answer: bytes) -> list[str]:
    """The addresses in the answer to a query."""
    found, place = [], len(query)
    for _ in range(_HEAD.unpack_from(answer)[3]):
        # A name is written out, or is a pointer to one that was.
        while answer[place] and answer[place] < 0xC0:
            place += 1 + answer[place]
        place += 2 if answer[place] >= 0xC0 else 1
        (size,) = struct.unpack_from(">H", answer, place + 8)
        found.append(socket.inet_ntoa(answer[place + 10 : place + 10 + size]))
        place += 10 + size
    return sorted(found)


def ask(asker: socket.socket, query: bytes) -> str:
    """What the engine's DNS says to a query, in a word."""
    try:
        asker.sendto(query, _ENGINE)
        answer = asker.recv(4096)
        # An answer that came too late for its question may still be here.
        while answer[:2] != query[:2]:
            answer = asker.recv(4096)
    except OSError:
        return SILENCE
    return ",".join(addresses(query, answer)) or NONE


def main() -> None:
    """Ask until the end."""
    number, due = 0, time.time()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(2)
        while True:
            for name in sys.argv[1:]:
                number = (number + 1) % 0x10000
                found = ask(asker, question(name, number))
                print(time.time(), name, found, flush=True)
            due = max(due + SAMPLING, time.time())
            time.sleep(max(0, due - time.time()))


if __name__ == "__main__":
    main()
