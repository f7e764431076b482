"""config.example.yml and the settings, held together: all are in it, and nothing else is."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from app.settings import (
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
from app.settings_file import load

pytestmark = pytest.mark.usefixtures("bare_environment")

FILE = Path(__file__).parent.parent / "config.example.yml"
AS_IT_STANDS = FILE.read_text(encoding="utf-8")
# A line of an example: a key right after the #, or what is indented below it.
WITH_EXAMPLES = re.sub(r"^#(?=[a-z_]+:|  )", "", AS_IT_STANDS, flags=re.MULTILINE)
SECTIONS: dict[str, type[BaseModel]] = {
    "engine_defaults": EngineDefaults,
    "engines": EngineSettings,
    "peers": PeerSettings,
    "defaults": EndpointSettings,
    "roles": RoleSettings,
    "aliases": AliasSettings,
    "proxy": ProxySettings,
    "relay": RelaySettings,
    "reload": ReloadSettings,
}
DOCUMENT = yaml.safe_load(WITH_EXAMPLES)


def keys_of(section: str) -> set[str]:
    """Every key below a section, of all the entries where it is a list."""
    found = DOCUMENT[section]
    entries = found if isinstance(found, list) else [found]
    return {key for entry in entries if isinstance(entry, dict) for key in entry}


def test_as_it_stands_it_says_what_holds_without_it() -> None:
    assert load(FILE).model_dump() == load().model_dump()


def test_what_it_says_as_it_stands_are_the_settings_with_a_default_of_their_own() -> None:
    of_its_own = {
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.default, str | int | float) and name not in SECTIONS
    }
    assert set(yaml.safe_load(AS_IT_STANDS)) == of_its_own


def test_with_its_examples_it_has_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(WITH_EXAMPLES, encoding="utf-8")
    settings = load(path)
    assert len(settings.engines) == 4
    assert settings.defaults.port
    assert settings.proxy.metrics_port
    assert settings.container_labels
    assert settings.data_dir


def test_every_setting_is_in_it_and_nothing_else() -> None:
    assert set(DOCUMENT) == set(Settings.model_fields)


@pytest.mark.parametrize(
    "section",
    ["engine_defaults", "engines", "defaults", "aliases", "proxy", "relay", "reload"],
)
def test_every_setting_of_a_section_is_in_it_and_nothing_else(section: str) -> None:
    assert keys_of(section) == set(SECTIONS[section].model_fields)


def test_every_file_that_secures_an_engine_is_in_it_and_nothing_else() -> None:
    _, over_tls, over_ssh, _ = DOCUMENT["engines"]
    for each in (over_tls, DOCUMENT["engine_defaults"]):
        assert each["tls"].keys() == TlsSettings.model_fields.keys()
    for each in (over_ssh, DOCUMENT["engine_defaults"]):
        assert each["ssh"].keys() == SshSettings.model_fields.keys()


def test_the_roles_show_what_only_they_have() -> None:
    own = RoleSettings.model_fields.keys() - EndpointSettings.model_fields.keys()
    assert own < keys_of("roles") < set(RoleSettings.model_fields)


def test_every_section_is_looked_at() -> None:
    lists = {name: value for name, value in DOCUMENT.items() if isinstance(value, list)}
    of_keys = {name for name, value in lists.items() if isinstance(value[0], dict)}
    of_keys |= {name for name, value in DOCUMENT.items() if isinstance(value, dict)}
    assert of_keys == set(SECTIONS)


def test_the_default_of_an_engine_is_shown() -> None:
    shown = EngineSettings.model_validate(DOCUMENT["engines"][0])
    assert shown.timeout == EngineSettings.model_fields["timeout"].default


def test_every_setting_is_explained_right_above_it() -> None:
    lines = WITH_EXAMPLES.splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"[a-z_]+:", line)]
    assert len(keys) == len(Settings.model_fields)
    assert not [lines[number] for number in keys if not lines[number - 1].startswith("# ")]


def test_no_remark_speaks_of_a_setting_that_is_none() -> None:
    known = set(Settings.model_fields).union(*(each.model_fields for each in SECTIONS.values()))
    remarks = [line for line in AS_IT_STANDS.splitlines() if line.lstrip().startswith("#")]
    assert set(re.findall(r"`([a-z_]+)`", "\n".join(remarks))) <= known


def test_its_lines_fit_a_screen() -> None:
    assert max(map(len, AS_IT_STANDS.splitlines())) <= 104
