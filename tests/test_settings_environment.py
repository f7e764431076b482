"""What the environment says: settings, the engine where none is set, and mistakes in both."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.settings_file import load
from tests.builders import mistakes

pytestmark = pytest.mark.usefixtures("bare_environment")

SOCKET = "unix:///var/run/docker.sock"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file without a mistake in it."""
    path = tmp_path / "config.yml"
    path.write_text(
        f"listen: 0.0.0.0:9889\nengines: [{{url: '{SOCKET}'}}]\ndefaults: {{path: /m}}\n"
    )
    return path


def write(directory: Path, content: str) -> Path:
    path = directory / "other.yml"
    path.write_text(content)
    return path


def test_the_environment_can_say_all_that_a_file_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMAL_SD_ENGINES", '[{"url": "tcp://10.0.0.1:2375", "host": "a"}]')
    monkeypatch.setenv("KAMAL_SD_ROLES", '[{"role": "web", "port": "9394"}]')
    monkeypatch.setenv("KAMAL_SD_CONTAINER_LABELS", '["com.example.*"]')
    monkeypatch.setenv("KAMAL_SD_PROXY__METRICS_PORT", "9090")
    monkeypatch.setenv("KAMAL_SD_OVERLAP_LIMIT", "30s")
    found = load()
    assert (found.engines[0].host, found.roles[0].role) == ("a", "web")
    assert found.proxy.metrics_port
    assert found.proxy.metrics_port[0].number == 9090
    assert found.container_labels == ("com.example.*",)
    assert found.overlap_limit == 30.0


def test_variables_of_the_command_line_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMAL_SD_CONFIG", "x")
    monkeypatch.setenv("KAMAL_SD_URL", "x")
    load()


# --- the engine where none is set ---


@pytest.mark.parametrize(
    ("environ", "url", "host", "address"),
    [
        ({}, SOCKET, "", ""),
        ({"DOCKER_HOST": ""}, SOCKET, "", ""),
        ({"DOCKER_HOST": "tcp://10.0.0.1:2375"}, "tcp://10.0.0.1:2375", "", ""),
        ({"KAMAL_HOST": "web-1"}, SOCKET, "web-1", "web-1"),
        (
            {"KAMAL_HOST": "web-1", "DOCKER_HOST": "tcp://127.0.0.1:2375"},
            *("tcp://127.0.0.1:2375", "web-1", "web-1"),
        ),
        (
            {"KAMAL_HOST": "web-1", "DOCKER_HOST": "tcp://web-2:2375"},
            *("tcp://web-2:2375", "web-1", ""),
        ),
    ],
)
def test_without_engines_it_is_docker_host_or_the_usual_socket(
    environ: Mapping[str, str], url: str, host: str, address: str
) -> None:
    (engine,) = load(environ=environ).engines
    assert (engine.url, engine.host, engine.address) == (url, host, address)


def test_an_engine_that_is_set_comes_before_docker_host(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": "unix:///other", "KAMAL_HOST": "web-1"}
    (engine,) = load(write(tmp_path, f"engines: [{{url: '{SOCKET}'}}]"), environ).engines
    assert (engine.url, engine.host, engine.address) == (SOCKET, "web-1", "web-1")
    named = f"engines: [{{url: '{SOCKET}', host: a, address: 10.0.0.1}}]"
    (engine,) = load(write(tmp_path, named), environ).engines
    assert (engine.host, engine.address) == ("a", "10.0.0.1")


def test_of_several_engines_none_is_the_kamal_host(tmp_path: Path) -> None:
    path = write(tmp_path, "engines: [{url: 'unix:///a', host: a}, {url: 'unix:///b', host: b}]")
    engines = load(path, {"KAMAL_HOST": "web-1"}).engines
    assert [(each.host, each.address) for each in engines] == [("a", ""), ("b", "")]


def test_several_engines_are_called_as_their_urls_call_them(tmp_path: Path) -> None:
    urls = "[tcp://web-1:2375, {url: 'tcp://web-2:2375', host: b}, 'tcp://[2001:DB8::3]:1']"
    engines = load(write(tmp_path, f"engines: {urls}"), {"KAMAL_HOST": "here"}).engines
    assert [(each.host, each.address) for each in engines] == [
        *(("web-1", ""), ("b", ""), ("2001:db8::3", ""))
    ]
    (alone,) = load(write(tmp_path, "engines: [tcp://web-1:2375]"), {}).engines
    assert alone.host == ""


def test_what_holds_for_all_engines_holds_for_one_that_is_not_in_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAMAL_SD_ENGINE_DEFAULTS__TIMEOUT", "3s")
    assert load().engines[0].timeout == 3
    monkeypatch.setenv("KAMAL_SD_ENGINES", '["tcp://a:1", {"url": "tcp://b:1", "timeout": 4}]')
    assert [each.timeout for each in load().engines] == [3, 4]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            "http://web-1:2375",
            "'http://web-1:2375' is no engine; write unix:///path/to/socket, tcp",
        ),
        ("docker.sock", "'docker.sock' is no engine"),
        ("tcp://10.0.0.1:99999", ""),
    ],
)
def test_a_wrong_docker_host_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", value)
    (found,) = mistakes(None)
    assert (found.line, found.key) == (None, "DOCKER_HOST")
    assert found.message.startswith(words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("KAMAL_SD_LISEN", "sets nothing; did you mean KAMAL_SD_LISTEN?"),
        ("KAMAL_SD_XYZZY", "sets nothing; known are listen, web_config"),
        ("KAMAL_SD_ROLE__0__PORT", "sets nothing; did you mean KAMAL_SD_ROLES?"),
        ("KAMAL_SD_", "sets nothing; known are listen, web_config"),
    ],
)
def test_a_variable_that_sets_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, file: Path, name: str, words: str
) -> None:
    monkeypatch.setenv(name, "x")
    for path in (file, None):
        (found,) = mistakes(path, "environment")
        assert (found.line, found.key) == (None, name)
        assert found.message.startswith(words)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("KAMAL_SD_LISTEN", "9889", id="a wrong value"),
        pytest.param("KAMAL_SD_OVERLAP_LIMIT", "soon", id="a wrong time"),
        pytest.param("KAMAL_SD_DEFAULTS__PATH", "metrics", id="a wrong value in a section"),
        pytest.param("KAMAL_SD_DEFAULTS__PROT", "9394", id="an unknown key in a section"),
        pytest.param("KAMAL_SD_LISTEN__PORT", "9889", id="a key of what is no section"),
        pytest.param("KAMAL_SD_DEFAULTS", "9394", id="no JSON for a section"),
        pytest.param("KAMAL_SD_ENGINES", SOCKET, id="no JSON for a list"),
        pytest.param("KAMAL_SD_CONTAINER_LABELS", "com.example.*", id="a text for a list"),
        pytest.param("KAMAL_SD_ENGINES__0__URL", SOCKET, id="an index of a list"),
        pytest.param("KAMAL_SD_ROLES", '[{"port": 70000}]', id="a wrong value in JSON"),
    ],
)
def test_a_mistake_in_a_variable_names_it_and_does_not_blame_the_file(
    monkeypatch: pytest.MonkeyPatch, file: Path, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    for path in (None, file):
        (found,) = mistakes(path, "environment")
        assert found.line is None
        assert "__".join(name.split("__")[:2]) in str(found)
