"""docs/settings.md, made from the settings and from what config.example.yml says of them.

`python -m tests.settings_page` writes it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.settings import (
    ENVIRONMENT_PREFIX,
    AliasSettings,
    EndpointSettings,
    EngineDefaults,
    EngineSettings,
    PeerSettings,
    ProxySettings,
    RelaySettings,
    ReloadSettings,
    RoleSettings,
    Settings,
    SshSettings,
    TlsSettings,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "settings.md"
EXAMPLE = ROOT / "config.example.yml"

SECTIONS: dict[str, type[BaseModel]] = {
    "engine_defaults": EngineDefaults,
    "engines": EngineSettings,
    "engines.tls": TlsSettings,
    "engines.ssh": SshSettings,
    "peers": PeerSettings,
    "defaults": EndpointSettings,
    "roles": RoleSettings,
    "aliases": AliasSettings,
    "proxy": ProxySettings,
    "relay": RelaySettings,
    "reload": ReloadSettings,
}
LISTS = {"engines", "peers", "roles"}
# What is explained at another place, and holds here as well.
AS_IN = {"engine_defaults": "engines", "roles": "defaults"}

HEAD = """\
# Settings

Made by `python -m tests.settings_page`; [config.example.yml](../config.example.yml) says more of
each. None is needed. The environment wins over the file; lists are JSON there.
`kamal-sd check config.yml` names the line, the key and the mend of every mistake.
"""


def page() -> str:
    """The whole page."""
    words = _explained()
    parts = [HEAD, *_table("", Settings, words)]
    for section, model in SECTIONS.items():
        parts += [f"\n## {section}\n", *_table(section, model, words)]
    return "\n".join(parts) + "\n"


def _table(section: str, model: type[BaseModel], words: dict[str, str]) -> Iterator[str]:
    is_list = section.partition(".")[0] in LISTS
    yield "| key | default | |" if is_list else "| key | default | variable | |"
    yield "|---|---|---|" if is_list else "|---|---|---|---|"
    for name, field in model.model_fields.items():
        place = f"{section}.{name}" if section else name
        if place in SECTIONS:
            if section:
                continue
            yield f"| [`{name}`](#{name}) | | | {words[place]} |"
            continue
        found = words.get(place) or words.get(f"{AS_IN.get(section, '')}.{name}", "")
        cells = [f"`{name}`", _default(field)]
        if not is_list:
            variable = ENVIRONMENT_PREFIX + place.replace(".", "__").upper()
            cells.append(f"`{variable}`")
        yield "| " + " | ".join([*cells, found]) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value: Any = field.get_default(call_default_factory=True)
    if value in (None, "", (), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else _number(value)}`"


def _number(value: object) -> str:
    # Whatever has a fraction here is a time.
    return f"{value:g}s" if isinstance(value, float) else str(value)


def _explained() -> dict[str, str]:
    """The first sentence that stands above each key in the example, by the key's place."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    remark: list[str] = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        text = re.sub(r"^#(?=[a-z_]+:|  )", "", line)
        if said := re.match(r"\s*# ?(.*)", text):
            remark.append(said[1])
            continue
        key = re.match(r"( *)(- )?([a-z_]+):", text)
        if key:
            indent = len(key[1]) + len(key[2] or "")
            above = [each for each in above if each[0] < indent]
            place = ".".join([*(name for _, name in above), key[3]])
            if remark:
                found.setdefault(place, _first_sentence(" ".join(remark)))
            above.append((indent, key[3]))
        remark = []
    return found


def _first_sentence(text: str) -> str:
    return (
        re.split(r"(?<=[.:?])\s+(?=[A-Z`\[])", text)[0]
        .removesuffix(":")
        .strip()
        .replace("|", "\\|")
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
