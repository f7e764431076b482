"""Prints the notes of a release: what CHANGELOG.md says below the heading of its version."""

import argparse
import re
import sys
from pathlib import Path

# `## 0.1.0 (2026-01-31)`, `## [0.1.0] - 2026-01-31`, `## Unreleased`
_HEADING = re.compile(r"^## +\[?([^\]\s]+).*$", re.MULTILINE)


def sections(changelog: str) -> dict[str, str]:
    """Return the text below each heading of the second level, by the first word of that."""
    _, *parts = _HEADING.split(changelog)
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def main() -> str | None:
    """Return the mistake, if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("changelog", type=Path)
    parser.add_argument("version")
    parser.add_argument("--released", action="store_true", help="what is unreleased does not do")
    wanted = parser.parse_args()
    found = sections(wanted.changelog.read_text(encoding="utf-8"))
    names = [wanted.version] if wanted.released else [wanted.version, "Unreleased"]
    name = next((name for name in names if found.get(name)), None)
    if name is None:
        return f"CHANGELOG.md says nothing below a heading ## {wanted.version}"
    if name != wanted.version:
        print(f"CHANGELOG.md has no {wanted.version} yet; the notes are of {name}", file=sys.stderr)
    print(found[name])
    return None


if __name__ == "__main__":
    sys.exit(main())
