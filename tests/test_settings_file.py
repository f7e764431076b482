"""Every mistake with its line, its key and its mend."""

from pathlib import Path

import pytest

from app.settings import Settings
from app.settings_file import Problem, load
from tests.builders import Write, assert_mistake, mistake, mistakes

pytestmark = pytest.mark.usefixtures("bare_environment")

SOCKET = "unix:///var/run/docker.sock"


# --- what is read ---


def test_a_whole_file_is_read(write: Write) -> None:
    path = write(
        """
        listen: 127.0.0.1:9890
        overlap_limit: 2m
        engines:
          - url: unix:///a.sock
            host: a
          - url: tcp://10.0.0.2:2375
            host: b
        defaults:
          port: 9394
        roles:
          - role: job
            port: [9394, sidekiq=9395]
            labels: {team: core}
        """
    )
    settings = load(path)
    assert settings.listen_port == 9890
    assert settings.overlap_limit == 120.0
    assert [engine.host for engine in settings.engines] == ["a", "b"]
    assert settings.roles[0].labels == {"team": "core"}


def test_with_peers_there_need_be_no_engine(write: Write) -> None:
    peers = "peers: [http://192.0.2.10:9889]\n"
    assert load(write(peers + "engines: []")).engines == ()
    assert [engine.url for engine in load(write(peers)).engines] == [SOCKET]
    assert [engine.url for engine in load(write("engines: []")).engines] == [SOCKET]


def test_a_peer_is_listed_once(write: Write) -> None:
    path = write(
        """
        peers:
          - http://192.0.2.10:9889
          - url: http://192.0.2.10:9889/
        """
    )
    assert_mistake(path, 4, "peers[1]", "http://192.0.2.10:9889 is listed already")


@pytest.mark.parametrize(
    "content", ["", "# nothing but a remark\n", "---\n", "\ufefflisten: a:9889"]
)
def test_a_file_may_be_empty_or_begin_with_a_mark(write: Write, content: str) -> None:
    assert load(write(content)).listen_port == 9889


def test_an_anchor_may_be_used_again(write: Write) -> None:
    path = write("defaults: &d {path: /m}\nroles: [{<<: *d, role: web}]")
    assert load(path).roles[0].path == "/m"


def test_no_file_is_needed() -> None:
    expected = Settings.model_validate({"engines": [{"url": SOCKET}]})
    assert load().model_dump() == expected.model_dump()


def test_options_come_before_the_environment_and_that_before_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("listen: a:1\nlog_level: debug\ndefaults: {path: /file, scheme: https}")
    assert load(path).listen == "a:1"
    monkeypatch.setenv("KAMAL_SD_LISTEN", "a:2")
    monkeypatch.setenv("KAMAL_SD_DEFAULTS__PATH", "/environment")
    assert load(path).listen == "a:2"
    found = load(path, options={"listen": "a:3"})
    assert (found.listen, found.log_level) == ("a:3", "debug")
    assert (found.defaults.path, found.defaults.scheme) == ("/environment", "https")


# --- mistakes in the file ---


@pytest.mark.parametrize(
    ("content", "line", "key", "words"),
    [
        pytest.param(
            "listen: a:1\novelap_limit: 5s",
            2, "ovelap_limit", "is no setting; did you mean overlap_limit?", id="an unknown key",
        ),
        pytest.param(
            "xyzzy: 1", 1, "xyzzy", "is no setting; known are listen, web_config, ", id="a stranger"
        ),
        pytest.param(
            "defaults:\n  path: /m\n  prot: 9394",
            3, "defaults.prot", "is no setting; did you mean port?", id="unknown in a section",
        ),
        pytest.param(
            "roles:\n- role: a\n- role: b\n  pth: /m",
            4, "roles[1].pth", "is no setting; did you mean path?", id="unknown in a list",
        ),
        pytest.param(
            "engines:\n- url: unix:///a\n  hots: a",
            3, "engines[0].hots", "is no setting; did you mean host?", id="unknown in an engine",
        ),
        pytest.param(
            "engines:\n- url: tcp://a:1\n  tls:\n    cra: /a",
            4, "engines[0].tls.cra", "is no setting; did you mean ca?", id="unknown in TLS",
        ),
        pytest.param(
            "engines:\n- url: tcp://a:1\n  tls:", 3, "engines[0].tls", "is empty", id="empty TLS"
        ),
        pytest.param(
            "engines:\n- url: ssh://a\n  ssh: {known_host: /a}",
            3, "engines[0].ssh.known_host", "is no setting; did you mean known_hosts?",
            id="unknown in SSH",
        ),
        pytest.param(
            "proxy:\n  port: 1", 2, "proxy.port", "is no setting; known are metrics_port",
            id="unknown in the proxy",
        ),
        pytest.param("\nlisten: 9889", 2, "listen", "", id="a number for a text"),
        pytest.param("listen: '9889'", 1, "listen", "'9889' is no address", id="a wrong value"),
        pytest.param("overlap_limit: true", 1, "overlap_limit", "", id="yes for a time"),
        pytest.param("roles:\n- port: 70000", 2, "roles[0].port", "'70000' is no", id="a port"),
        pytest.param(
            "defaults:\n  labels:\n    a-b: x",
            3, "defaults.labels.a-b", "'a-b' is no label name", id="a label's name",
        ),
        pytest.param(
            "defaults:\n  labels:\n    a: b\n    9: c",
            4, "defaults.labels[9]", "", id="a number for a label's name",
        ),
        pytest.param(
            "engines:\n- host: a", 2, "engines[0].url", "Field required", id="a key left out"
        ),
        pytest.param(
            "roles:\n- interval: 5s\n  timeout: 9s",
            2, "roles[0]", "timeout 9s is longer than interval 5s; shorten it", id="two that clash",
        ),
        pytest.param(
            "engines:\n- {url: 'unix:///a', host: a}\n- {url: 'unix:///b', host: a}",
            3, "engines[1].host", "'a' is another engine's; make it unique", id="one host twice",
        ),
        pytest.param(
            "engines:\n- {url: 'unix:///a', host: a}\n- {url: 'unix:///b'}",
            3, "engines[1]", "needs a host: with several engines each has its own name",
            id="a host left out",
        ),
        pytest.param(
            "engines:\n- tcp://a:1\n- unix:///b",
            3, "engines[1]", "needs a host: with several engines each has its own name",
            id="a socket has no host",
        ),
        pytest.param(
            "engines:\n- tcp://a:1\n- tcp://a:2",
            3, "engines[1].host", "'a' is another engine's; make it unique",
            id="two URLs with one host",
        ),
        pytest.param(
            "engines:\n- tcp://a:1\n- a:2", 3, "engines[1].url", "'a:2' is no engine; write unix://",
            id="a text that is no engine",
        ),
        pytest.param(
            "engine_defaults:\n  timeout: soon\nengines: [tcp://a:1]",
            2, "engine_defaults.timeout", "'soon' is no duration", id="wrong for all engines",
        ),
        pytest.param(
            "engine_defaults:\n  adress: a", 2, "engine_defaults.adress",
            "is no setting; known are network, timeout", id="unknown for all engines",
        ),
        pytest.param(
            "roles:\n- role: a\n  instance: x\n- role: b\n  instance: x",
            5, "roles[1].instance", "'x' is another role's; make it unique, or use {slot}",
            id="one instance twice",
        ),
        pytest.param("- listen", 1, "", "must hold keys and values", id="a list"),
        pytest.param("listen", 1, "", "must hold keys and values, like listen", id="a text"),
        pytest.param("a: [\n", 2, "", "is not YAML: expected the node content", id="no YAML"),
        pytest.param("a: 1\n\tb: 2", 2, "", "is not YAML: found character", id="a tab"),
        pytest.param("a: 'x\nb: 1\n", 3, "", "is not YAML: found unexpected end", id="a quote"),
        pytest.param("? [a]\n: 1", 1, "", "is not YAML: found unhash", id="a list as key"),
        pytest.param("a: 1\n---\nb: 2", 2, "", "is not YAML: but found a", id="two documents"),
        pytest.param("a: !!python/none x", 1, "", "is not YAML: could not determine", id="a tag"),
        pytest.param("a: \x00", 1, "", "is not YAML: ", id="a character that YAML has not"),
        pytest.param(
            "listen: a:1\nlog_level: info\nlisten: a:2",
            3, "listen", "stands on line 1 already; keep one", id="a key twice",
        ),
        pytest.param(
            "roles:\n- role: a\n  port: 1\n  port: 2",
            4, "roles[0].port", "stands on line 3 already; keep one", id="twice, further down",
        ),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_its_key_and_its_mend(
    write: Write, content: str, line: int, key: str, words: str
) -> None:
    assert_mistake(write(content), line, key, words)


def test_every_mistake_is_told_in_the_files_order(write: Write) -> None:
    path = write("lisen: x\nroles:\n- port: x\n- path: x\nproxy: 5\nlog_level: loud")
    assert [(each.line, each.key) for each in mistakes(path)] == [
        (1, "lisen"),
        (3, "roles[0].port"),
        (4, "roles[1].path"),
        (5, "proxy"),
        (6, "log_level"),
    ]


def test_every_key_that_stands_twice_is_told(write: Write) -> None:
    assert [each.line for each in mistakes(write("a: 1\na: 2\nb: 3\nb: 4\na: 5"))] == [2, 4, 5]


@pytest.mark.parametrize(
    "content", ["engines:\n", "roles: web", "container_labels: a", "roles: {}"]
)
def test_what_must_be_a_list_is_called_so(write: Write, content: str) -> None:
    found = mistake(write(content))
    assert found.line == 1
    assert "list" in found.message


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param("9889: x", 1, id="a number for a key"),
        pytest.param("a: 1\non: x", 2, id="a key that YAML 1.1 takes for true"),
        pytest.param("~: x", 1, id="null for a key"),
        pytest.param("listen: 2026-99-99", 1, id="a date that is none"),
        pytest.param("roles: &r [*r]", 1, id="a list of itself"),
    ],
)
def test_an_odd_file_is_a_mistake_and_no_crash(write: Write, content: str, line: int) -> None:
    assert line in [each.line for each in mistakes(write(content))]


@pytest.mark.parametrize("content", [b"\xff\xfe", "größe: x".encode("latin-1")])
def test_a_file_that_is_not_utf_8(write: Write, content: bytes) -> None:
    assert mistake(write(content)) == Problem(None, "", "is not UTF-8 text")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = mistake(tmp_path / "none.yml")
    assert missing == Problem(None, "", "cannot be read: No such file or directory")
    assert mistake(tmp_path) == Problem(None, "", "cannot be read: Is a directory")


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(3, "a.b", "is wrong"), "line 3: a.b: is wrong"),
        (Problem(3, "", "is wrong"), "line 3: is wrong"),
        (Problem(None, "a.b", "is wrong"), "a.b: is wrong"),
        (Problem(None, "", "is wrong"), "is wrong"),
    ],
)
def test_a_problem_is_a_line_for_people(problem: Problem, text: str) -> None:
    assert str(problem) == text
