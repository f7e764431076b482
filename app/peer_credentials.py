"""What another kamal-sd is shown, and checked with: from files, each read when it is needed."""

import ssl
from base64 import b64encode
from pathlib import Path

from app.settings import PeerSettings


class CredentialsError(Exception):
    """A file cannot be used. The message names it."""


def headers_for(peer: PeerSettings) -> list[tuple[bytes, bytes]]:
    """The header that says who asks, if the peer wants to know. Raises CredentialsError."""
    if peer.token_file:
        return [(b"authorization", b"Bearer " + _secret(peer.token_file))]
    if peer.password_file:
        pair = peer.username.encode() + b":" + _secret(peer.password_file)
        return [(b"authorization", b"Basic " + b64encode(pair))]
    return []


def tls_for(peer: PeerSettings) -> ssl.SSLContext:
    """How an https peer's certificate is checked. Raises CredentialsError."""
    try:
        return ssl.create_default_context(cafile=peer.ca)
    except OSError as error:
        raise CredentialsError(f"ca: {peer.ca}: {error.strerror or error}") from None


def _secret(path: Path) -> bytes:
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}") from None
    if len(secret.splitlines()) > 1:
        # What follows would be headers of their own.
        raise CredentialsError(f"{path} has more than one line")
    return secret
