"""A gzip answer that is put together of pieces, each of which was compressed once (RFC 1951, 1952).

A piece begins and ends at a whole byte, and refers to nothing before it, so it can stand anywhere.
"""

import zlib
from collections.abc import Iterable
from typing import NamedTuple

_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_EMPTY_LAST_BLOCK = b"\x03\0"
_SIZE_LIMIT = 1 << 32


class Piece(NamedTuple):
    """A part of an answer, as it is and compressed."""

    content: bytes
    deflated: bytes


def piece(content: bytes) -> Piece:
    """The content as a piece."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return Piece(content, deflate.compress(content) + deflate.flush(zlib.Z_SYNC_FLUSH))


def whole(pieces: Iterable[Piece]) -> bytes:
    """The answer of these pieces. The same ones give the same bytes."""
    parts = [_HEAD]
    checksum, size = 0, 0
    for each in pieces:
        parts.append(each.deflated)
        checksum = zlib.crc32(each.content, checksum)
        size += len(each.content)
    ends = [checksum.to_bytes(4, "little"), (size % _SIZE_LIMIT).to_bytes(4, "little")]
    return b"".join([*parts, _EMPTY_LAST_BLOCK, *ends])
