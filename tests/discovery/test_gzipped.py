import zlib

import hypothesis
from hypothesis import strategies as st

from app.discovery import gzipped

# A window of gzip's, which says at the end whether it came to the end, and what is left over.
GZIP = 16 + zlib.MAX_WBITS
contents = st.lists(st.binary(max_size=50) | st.just(b"again and again" * 3000), max_size=6)


@hypothesis.settings(derandomize=True, deadline=None)
@hypothesis.given(contents)
def test_pieces_in_any_order_are_one_gzip_file(parts: list[bytes]) -> None:
    pieces = {part: gzipped.piece(part) for part in parts}
    for order in (parts, parts[::-1]):
        reader = zlib.decompressobj(GZIP)
        read = reader.decompress(gzipped.whole(pieces[part] for part in order))
        assert read == b"".join(order)
        assert (reader.eof, reader.unused_data) == (True, b"")


def test_the_same_pieces_give_the_same_bytes_whenever_they_are_made() -> None:
    one, same = (gzipped.whole([gzipped.piece(b"x")]) for _ in range(2))
    assert one == same
    assert one[4:8] == bytes(4)


def test_what_repeats_itself_is_small() -> None:
    assert len(gzipped.piece(b"again and again" * 3000).deflated) < 500
