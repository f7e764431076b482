"""Web config files for tests, and whoever shows credentials."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import bcrypt

# As quick as bcrypt can be. `$2y` is how htpasswd writes it.
COST = 4
TOKENS = {"prometheus": "p" * 32, "admin": "A-._~+/1234567890=="}


def hashed(password: str) -> str:
    """A hash as htpasswd makes one."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode().replace("$2b", "$2y")


def basic(user: str, password: str) -> dict[str, str]:
    """The header of a user."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token}"}


def write_tokens(folder: Path, tokens: Mapping[str, str] = TOKENS) -> None:
    """A file for each, with the line's end that an editor leaves."""
    for name, token in tokens.items():
        (folder / f"{name}.token").write_text(f"{token}\n")


def web_file(folder: Path, text: str) -> Path:
    """The file, at once in whole: it may be read at any time."""
    path = folder / "web.yml"
    new = folder / "web.yml.new"
    new.write_text(dedent(text))
    return new.rename(path)
