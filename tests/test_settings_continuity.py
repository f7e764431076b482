"""What is set for the relay, the file, the next generation and of kamal-proxy's state."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.settings import EngineSettings, Settings
from app.settings_file import load
from tests.builders import Write, assert_mistake, mistake

pytestmark = pytest.mark.usefixtures("bare_environment")

LOCAL, OTHER_LOCAL, FAR = "unix:///a", "unix:///b", "tcp://10.0.0.1:2375"


def engines(*urls: str) -> str:
    entries = ", ".join(f"{{url: '{url}', host: h{index}}}" for index, url in enumerate(urls))
    return f"engines: [{entries}]\n"


# --- what is right ---


@pytest.mark.parametrize(
    "address", ["", "kamal-sd:9889", "10.0.0.1:80", "[fd00::1]:9889", "sd.example:65535", "a_b:1"]
)
def test_the_relays_address_is_a_host_with_a_port(address: str) -> None:
    assert Settings.model_validate({"relay": {"address": address}}).relay.address == address


def test_all_of_it_is_read_from_a_file(write: Write) -> None:
    found = load(
        write(
            """
            defaults: {address: relay, generations: both}
            roles: [{role: job, generations: current, address: ip}]
            relay: {address: "kamal-sd:9889", timeout: 30s, max_size: 1000}
            proxy: {state_file: /kamal-proxy/kamal-proxy.state}
            file_sd: /targets/kamal-sd.json
            """
        )
    )
    assert (found.defaults.address, found.defaults.generations) == ("relay", "both")
    assert (found.roles[0].address, found.roles[0].generations) == ("ip", "current")
    assert found.relay.model_dump() == {
        "address": "kamal-sd:9889", "scheme": "http", "timeout": 30.0, "max_size": 1000
    }  # fmt: skip
    assert found.proxy.state_file == Path("/kamal-proxy/kamal-proxy.state")
    assert found.file_sd == Path("/targets/kamal-sd.json")


def test_and_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DEFAULTS__ADDRESS": "relay",
        "DEFAULTS__GENERATIONS": "both",
        "RELAY__ADDRESS": "kamal-sd:9889",
        "RELAY__TIMEOUT": "30s",
        "RELAY__MAX_SIZE": "1000",
        "PROXY__STATE_FILE": "/state",
        "FILE_SD": "/file",
    }.items():
        monkeypatch.setenv(f"KAMAL_SD_{name}", value)
    found = load()
    assert (found.defaults.address, found.defaults.generations) == ("relay", "both")
    assert found.relay.model_dump() == {
        "address": "kamal-sd:9889", "scheme": "http", "timeout": 30.0, "max_size": 1000
    }  # fmt: skip
    assert (found.proxy.state_file, found.file_sd) == (Path("/state"), Path("/file"))


@pytest.mark.parametrize(
    ("urls", "of_this_host"),
    [
        ([LOCAL], LOCAL),
        ([FAR], FAR),
        ([LOCAL, FAR], LOCAL),
        ([FAR, LOCAL], LOCAL),
        ([LOCAL, OTHER_LOCAL], None),
        ([FAR, "tcp://10.0.0.2:2375"], None),
        ([], None),
    ],
)
def test_which_engine_is_of_this_host(urls: list[str], of_this_host: str | None) -> None:
    given = [EngineSettings(url=url, host=url[-6:]) for url in urls]
    found = Settings(engines=tuple(given)).engine_of_this_host
    assert (found.url if found else None) == of_this_host


@pytest.mark.parametrize("urls", [[], [LOCAL], [FAR], [LOCAL, FAR]])
def test_kamal_proxys_state_is_of_an_engine_that_is_certain(write: Write, urls: list[str]) -> None:
    text = (engines(*urls) if urls else "") + "proxy: {state_file: /state}"
    found = load(write(text))
    assert found.proxy.state_file == Path("/state")
    assert found.engine_of_this_host


@pytest.mark.parametrize(
    "content",
    [
        "file_sd: /f\n",
        "file_sd: /f\ndefaults: {address: auto}\nroles: [{role: job, address: ip}]",
        "file_sd: /f\ndefaults: {address: relay}\nrelay: {address: 'kamal-sd:9889'}",
        "defaults: {address: relay}",
    ],
)
def test_a_file_has_targets_that_can_be_told_without_a_caller(write: Write, content: str) -> None:
    load(write(content))


# --- what is wrong ---


@pytest.mark.parametrize(
    ("content", "line", "key", "words"),
    [
        pytest.param(
            "relay:\n  address: kamal-sd",
            2, "relay.address", "'kamal-sd' has no port; write it like kamal-sd:9889", id="no port",
        ),
        pytest.param(
            "relay:\n  address: 9889", 2, "relay.address", "Input should be a valid string",
            id="a port alone",
        ),
        pytest.param(
            "relay:\n  address: http://kamal-sd:9889",
            2, "relay.address", "'http://kamal-sd' is no host name", id="an URL",
        ),
        pytest.param(
            "relay:\n  address: kamal-sd:9889/scrape",
            2, "relay.address", "'kamal-sd:9889/scrape' has no port", id="a path",
        ),
        pytest.param(
            "relay:\n  address: 'fd00::1:9889'",
            2, "relay.address", "'fd00::1' is no host name", id="IPv6 without brackets",
        ),
        pytest.param(
            "relay:\n  address: '[fe80::1%eth0]:9889'",
            2, "relay.address", "'fe80::1%eth0' is an address of one host alone", id="a zone",
        ),
        pytest.param("relay:\n  timeout: 0s", 2, "relay.timeout", "", id="no time"),
        pytest.param("relay:\n  max_size: 0", 2, "relay.max_size", "", id="no byte"),
        pytest.param("relay:\n  max_size: 64MB", 2, "relay.max_size", "", id="a unit"),
        pytest.param(
            "relay:\n  adress: a:1", 2, "relay.adress", "is no setting; did you mean address?",
            id="a slip in the relay",
        ),
        pytest.param(
            "proxy:\n  statefile: /s",
            2, "proxy.statefile", "is no setting; did you mean state_file?", id="in the proxy",
        ),
        pytest.param(
            "file-sd: /f", 1, "file-sd", "is no setting; did you mean file_sd?", id="a dash"
        ),
        pytest.param("file_sd: [/f]", 1, "file_sd", "", id="a list of files"),
        pytest.param(
            "defaults:\n  generations: all",
            2, "defaults.generations", "Input should be 'current' or 'both'", id="all generations",
        ),
        pytest.param(
            "roles:\n- role: web\n  generations: next",
            3, "roles[0].generations", "Input should be 'current' or 'both'", id="of a role",
        ),
        pytest.param(
            "defaults:\n  labels:\n    generation: x",
            3, "defaults.labels.generation", "kamal-sd gives the label generation itself",
            id="a label of that name",
        ),
        pytest.param(
            f"proxy:\n  state_file: /s\n{engines(LOCAL, OTHER_LOCAL)}",
            2, "proxy.state_file",
            "is of this host's kamal-proxy; of several engines just one may be at unix://",
            id="kamal-proxy of two engines here",
        ),
        pytest.param(
            f"{engines(FAR, 'tcp://10.0.0.2:2375')}proxy: {{state_file: /s}}",
            2, "proxy.state_file", "is of this host's kamal-proxy", id="of none here",
        ),
        pytest.param(
            "defaults: {address: relay}\nfile_sd: /f",
            2, "file_sd", "has targets with address: relay; set relay.address, like kamal-sd:9889",
            id="a file with the relay",
        ),
        pytest.param(
            "file_sd: /f\nroles:\n- {role: web}\n- {role: job, address: relay}",
            1, "file_sd", "has targets with address: relay", id="a file with the relay for a role",
        ),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_its_key_and_its_mend(
    write: Write, content: str, line: int, key: str, words: str
) -> None:
    assert_mistake(write(content), line, key, words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"KAMAL_SD_RELAY__ADDRESS": "x"}, "KAMAL_SD_RELAY__ADDRESS: 'x' has no port"),
        ({"KAMAL_SD_RELAY__ADRESS": "x:1"}, "KAMAL_SD_RELAY"),
        ({"KAMAL_SD_RELAY": "x:1"}, "KAMAL_SD_RELAY: is not JSON"),
        ({"KAMAL_SD_RELAY_ADDRESS": "x:1"}, "KAMAL_SD_RELAY_ADDRESS: sets nothing"),
        ({"KAMAL_SD_DEFAULTS__GENERATIONS": "all"}, "KAMAL_SD_DEFAULTS__GENERATIONS: "),
        ({"KAMAL_SD_FILE_SD__PATH": "/f"}, "KAMAL_SD_FILE_SD__PATH: sets nothing"),
        (
            {"KAMAL_SD_FILE_SD": "/f", "KAMAL_SD_DEFAULTS__ADDRESS": "relay"},
            "file_sd: has targets with address: relay",
        ),
    ],
)
def test_a_mistake_in_the_environment_names_it(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], words: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = mistake(None)
    assert found.line is None
    assert str(found).startswith(words)


def test_a_frozen_part_stays_as_it_was_checked() -> None:
    checked: Any = Settings()
    for part, name in ((checked.relay, "address"), (checked.proxy, "state_file")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, name, "x")
