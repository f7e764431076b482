"""What other kamal-sd's are shown."""

from pathlib import Path

import pytest

from app.peer_credentials import CredentialsError, headers_for
from app.settings import PeerSettings


@pytest.mark.parametrize("secret", ["secret", " secret\n", "secret\r\n\r\n"])
def test_a_secret_is_the_line_in_its_file(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(secret.encode())
    peer = PeerSettings(url="http://web-1:9889", token_file=path)
    assert headers_for(peer) == [(b"authorization", b"Bearer secret")]


@pytest.mark.parametrize("secret", ["a\nb", "a\r\nX-Other: b\r\n", "a\rb"])
def test_a_secret_of_several_lines_is_none(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(secret.encode())
    peer = PeerSettings(url="http://web-1:9889", token_file=path)
    with pytest.raises(CredentialsError, match="token has more than one line"):
        headers_for(peer)
