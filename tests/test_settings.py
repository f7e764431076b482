from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.grammar import NamedPort
from app.settings import (
    EndpointSettings,
    EngineDefaults,
    EngineSettings,
    PeerSettings,
    RoleSettings,
    Settings,
    SshSettings,
    TlsSettings,
)

URL = "unix:///var/run/docker.sock"
TIMES = ["startup_grace", "resync_interval", "overlap_limit", "keep_missing"]


def settings(**given: object) -> Settings:
    """Checked without the environment."""
    return Settings.model_validate(given)


def problem(**given: object) -> str:
    """The one mistake in it, as `place: message`."""
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    (found,) = caught.value.errors()
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def test_without_any_setting_the_defaults_serve() -> None:
    # Zero configuration (promise 7): a change here changes what everybody runs.
    assert settings().model_dump() == {
        "listen": "0.0.0.0:9889",
        "web_config": None,
        "log_level": "info",
        "log_format": "text",
        "data_dir": None,
        "engine_defaults": {"network": None, "timeout": 10.0, "tls": None, "ssh": None},
        "engines": (),
        "peers": (),
        "startup_grace": 30.0,
        "resync_interval": 60.0,
        "overlap_limit": 90.0,
        "keep_missing": 3600.0,
        "defaults": {**dict.fromkeys(EndpointSettings.model_fields), "labels": {}},
        "roles": (),
        "accessories": False,
        "aliases": {"verify": False, "manage": False, "network": "kamal-sd"},
        "proxy": {"metrics_port": None, "state_file": None},
        "relay": {"address": "", "scheme": "http", "timeout": 10.0, "max_size": 67_108_864},
        "file_sd": None,
        "container_labels": (),
        "reload": {"http": False, "watch": True},
    }


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("0.0.0.0:9889", "0.0.0.0", 9889),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("localhost:65535", "localhost", 65_535),
        ("[::]:9889", "::", 9889),
    ],
)
def test_where_it_listens(listen: str, host: str, port: int) -> None:
    found = settings(listen=listen)
    assert (found.listen_host, found.listen_port) == (host, port)


@pytest.mark.parametrize(
    "listen", ["", "9889", ":9889", "0.0.0.0", "0.0.0.0:", "0.0.0.0:http", "0.0.0.0:-1", "[::]"]
)
def test_what_is_no_address_to_listen_at(listen: str) -> None:
    assert "is no address to listen at; write it like 0.0.0.0:9889" in problem(listen=listen)


@pytest.mark.parametrize("port", ["0", "65536", "99999999", "٣"])
def test_a_port_to_listen_at_is_one_that_exists(port: str) -> None:
    assert "write a number from 1 to 65535" in problem(listen=f"0.0.0.0:{port}")


@pytest.mark.parametrize("field", TIMES)
@pytest.mark.parametrize(
    ("value", "seconds"), [("90s", 90.0), ("1m30s", 90.0), (90, 90.0), (0.5, 0.5)]
)
def test_a_time_is_a_duration_or_a_number_of_seconds(
    field: str, value: object, seconds: float
) -> None:
    assert getattr(settings(**{field: value}), field) == seconds


@pytest.mark.parametrize("field", TIMES)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("90", "'90' is no duration; write it like 30s"),
        ("soon", "'soon' is no duration"),
        ("0s", "greater than 0"),
        (0, "greater than 0"),
        (-1, "greater than 0"),
        (float("inf"), "finite number"),
        (float("nan"), ""),
        ([], "valid number"),
        (None, "valid number"),
        (True, ""),
    ],
)
def test_what_is_no_time(field: str, value: object, words: str) -> None:
    found = problem(**{field: value})
    assert found.startswith(f"{field}: ")
    assert words in found


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("log_level", "debug", "debug"),
        ("data_dir", "/var/lib/x", Path("/var/lib/x")),
        ("accessories", True, True),
        ("container_labels", ["a", "b.*"], ("a", "b.*")),
    ],
)
def test_what_is_right_is_taken(name: str, given: object, value: object) -> None:
    assert getattr(settings(**{name: given}), name) == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"log_level": "loud"}, "log_level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ({"data_dir": 5}, "data_dir: "),
        ({"accessories": "maybe"}, "accessories: "),
        ({"container_labels": "com.*"}, "container_labels: "),
        ({"container_labels": [5]}, "container_labels.0: "),
        ({"engines": {"url": URL}}, "engines: "),
        ({"engines": [{}]}, "engines.0.url: Field required"),
        ({"engines": [{"url": URL, "name": "x"}]}, "engines.0.name: Extra inputs"),
        ({"engines": [{"url": URL, "timeout": 0}]}, "engines.0.timeout: "),
        ({"engines": [{"url": URL, "host": 5}]}, "engines.0.host: "),
        ({"engines": [5]}, "engines.0: "),
        ({"engines": ["web-1"]}, "engines.0.url: Value error, 'web-1' is no engine"),
        ({"engines": URL}, "engines: "),
        ({"engine_defaults": {"url": URL}}, "engine_defaults.url: Extra inputs"),
        ({"engine_defaults": {"host": "a"}}, "engine_defaults.host: Extra inputs"),
        ({"engine_defaults": {"timeout": 0}, "engines": [URL]}, "engine_defaults.timeout: "),
        ({"proxy": {"metrics_port": 0}}, "proxy.metrics_port: Value error, '0' is no port"),
        ({"proxy": {"port": 1}}, "proxy.port: Extra inputs"),
        ({"roles": [{"rule": "web"}]}, "roles.0.rule: Extra inputs"),
        ({"roles": ["web"]}, "roles.0: "),
        ({"roles": [{"role": 5}]}, "roles.0.role: "),
        ({"ovelap_limit": 5}, "ovelap_limit: Extra inputs"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(given: Mapping[str, Any], words: str) -> None:
    assert problem(**given).startswith(words)


@pytest.mark.parametrize(
    "url",
    [URL, "unix:///x", "tcp://10.0.0.1:2375", "tcp://[fd00::1]:2376", "tcp://engine:1",
     "ssh://web-1", "ssh://root@10.0.0.1", "ssh://root@web_1.example:2222/run/user/1000/docker.sock",
     "ssh://root@[fd00::1]:22", "ssh://web-1/"],
)  # fmt: skip
def test_an_engine_is_on_a_socket_or_a_tcp_port_or_behind_ssh(url: str) -> None:
    engine = EngineSettings(url=url)
    assert engine.url == url
    assert engine.is_on_this_host == url.startswith("unix:")
    assert engine.is_over_ssh == url.startswith("ssh:")


@pytest.mark.parametrize(
    "url",
    ["", "/var/run/docker.sock", "unix://docker.sock", "unix://", "tcp://10.0.0.1", "tcp://:2375",
     "tcp://10.0.0.1:0", "http://10.0.0.1:2375", "npipe:////./pipe/docker", "ssh://",
     "ssh://root@", "ssh://root:secret@host", "ssh://-oProxyCommand=x", "ssh://host/a b",
     "ssh://host/a:b", "ssh://host/%h", "ssh://host?x", "ssh://host:0", "ssh://host:x"],
)  # fmt: skip
def test_what_is_no_engine_is_told_how_to_be_one(url: str) -> None:
    found = problem(engines=[{"url": url}])
    assert "is no engine; write unix:///path/to/socket, tcp://host:port or ssh://user@host" in found


@pytest.mark.parametrize(
    "url",
    [
        *("tcp://10.0.0.1:99999", "tcp://10.0.0.1:x", "tcp://[::1", "tcp://a\x01b:1"),
        "ssh://web-1:99999",
    ],
)
def test_an_address_of_an_engine_that_cannot_be_read_is_refused(url: str) -> None:
    assert problem(engines=[{"url": url}]).startswith("engines.0.url: Value error, ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": "a\tb"}, "engines.0.host"),
        ({"host": "\ud800"}, "engines.0.host"),
        ({"host": "h" * 201}, "engines.0.host"),
        ({"address": "a b"}, "engines.0.address"),
        ({"address": "[::1]"}, "engines.0.address"),
        ({"address": "10.0.0.1:80"}, "engines.0.address"),
    ],
)
def test_a_host_that_could_not_be_in_an_answer_is_refused(
    given: Mapping[str, Any], words: str
) -> None:
    assert problem(engines=[{"url": URL, **given}]).startswith(words)


@pytest.mark.parametrize("address", ["", "10.0.0.1", "fd00::1", "web-1.example"])
def test_a_hosts_address_is_an_ip_or_a_name(address: str) -> None:
    assert EngineSettings(url=URL, address=address).address == address


TCP = "tcp://10.0.0.1:2376"
SSH = "ssh://root@10.0.0.1"


def test_an_engine_is_secured_with_files() -> None:
    files = {"ca": "/ca.pem", "cert": "/cert.pem", "key": "/key.pem"}
    (engine,) = settings(engines=[{"url": TCP, "tls": files}]).engines
    assert engine.tls == TlsSettings(
        ca=Path("/ca.pem"), cert=Path("/cert.pem"), key=Path("/key.pem")
    )
    (engine,) = settings(engines=[{"url": TCP, "tls": {}}]).engines
    assert engine.tls == TlsSettings()
    (engine,) = settings(engines=[{"url": SSH, "ssh": {"known_hosts": "/known"}}]).engines
    assert engine.ssh == SshSettings(known_hosts=Path("/known"))
    (engine,) = settings(engines=[{"url": TCP}]).engines
    assert (engine.tls, engine.ssh) == (None, None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url": TCP, "tls": None}, "engines.0.tls: Value error, is empty; write {} for TLS"),
        (
            {"url": TCP, "tls": {"cert": "/c"}},
            "engines.0.tls: Value error, has one of cert and key",
        ),
        ({"url": TCP, "tls": {"key": "/k"}}, "engines.0.tls: Value error, has one of cert and key"),
        ({"url": TCP, "tls": True}, "engines.0.tls: "),
        ({"url": TCP, "tls": {"verify": False}}, "engines.0.tls.verify: Extra inputs"),
        ({"url": URL, "tls": {}}, "engines.0: Value error, has tls, which is for tcp:// alone"),
        ({"url": SSH, "tls": {}}, "engines.0: Value error, has tls, which is for tcp:// alone"),
        ({"url": TCP, "ssh": {}}, "engines.0: Value error, has ssh, which is for ssh:// alone"),
    ],
)
def test_what_secures_no_engine_is_refused(given: Mapping[str, Any], words: str) -> None:
    assert problem(engines=[given]).startswith(words)


@pytest.mark.parametrize(
    ("given", "reached_at"),
    [
        ({"url": URL}, ""),
        ({"url": URL, "address": "192.0.2.1", "host": "web-1"}, "192.0.2.1"),
        ({"url": URL, "host": "web-1"}, "web-1"),
        ({"url": URL, "host": "2001:db8::1"}, "2001:db8::1"),
        ({"url": URL, "host": "the first one"}, ""),
        ({"url": "tcp://Web-1.example:2375", "host": "a"}, "web-1.example"),
        ({"url": "tcp://[2001:DB8::1]:2375"}, "2001:db8::1"),
        ({"url": "tcp://web-1:2375", "address": "2001:db8::1"}, "2001:db8::1"),
        # The end of a tunnel is on this host, and the engine is not.
        *(
            ({"url": f"tcp://{tunnel}:2375", "host": host}, reached_at)
            for tunnel in ("127.0.0.1", "127.8.0.1", "[::1]", "localhost", "LOCALHOST")
            for host, reached_at in (("", ""), ("127.0.0.1", ""), ("localhost", ""), ("a", "a"))
        ),
    ],
)
def test_where_others_reach_the_host_of_an_engine(
    given: Mapping[str, Any], reached_at: str
) -> None:
    assert EngineSettings(**given).reached_at == reached_at


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"username": "x"}, "has one of username and password_file; they go together"),
        ({"password_file": "x"}, "has one of username and password_file; they go together"),
        (
            {"username": "x", "password_file": "x", "token_file": "x"},
            "has token_file and username; keep one",
        ),
    ],
)
def test_a_peer_is_shown_one_thing(given: Mapping[str, Any], words: str) -> None:
    found = problem(peers=[{"url": "https://a", **given}])
    assert found == f"peers.0: Value error, {words}"


@pytest.mark.parametrize(
    ("listen", "is_so"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("web-1:1", False),
    ],
)
def test_whether_it_is_heard_on_this_machine_alone(listen: str, is_so: bool) -> None:
    assert settings(listen=listen).is_heard_here_alone == is_so


# --- many engines ---


def test_what_secures_engines_goes_to_those_that_can_have_it() -> None:
    tls, ssh = {"ca": "/ca.pem"}, {"key": "/key"}
    found = settings(
        engine_defaults={"tls": tls, "ssh": ssh}, engines=[URL, TCP, SSH, {"url": TCP, "tls": {}}]
    ).engines
    assert [(each.tls, each.ssh) for each in found] == [
        (None, None),
        (TlsSettings(ca=Path("/ca.pem")), None),
        (None, SshSettings(key=Path("/key"))),
        (TlsSettings(), None),
    ]


def test_an_engine_may_be_its_url_alone() -> None:
    found = settings(engines=["tcp://web-1:2375", {"url": URL, "host": "b"}]).engines
    assert found == (EngineSettings(url="tcp://web-1:2375"), EngineSettings(url=URL, host="b"))


def test_what_holds_for_all_engines_is_written_once() -> None:
    defaults = {"timeout": "5s", "network": "private"}
    own = {"url": URL, "timeout": 10, "network": None}
    first, second, third = settings(
        engine_defaults=defaults, engines=["tcp://web-1:2375", {"url": URL, "timeout": 9}, own]
    ).engines
    assert (first.timeout, first.network) == (5.0, "private")
    assert (second.timeout, second.network) == (9.0, "private")
    # What an engine sets is its own, be it the default.
    assert (third.timeout, third.network) == (10.0, None)


def test_every_key_but_what_is_of_one_engine_alone_can_be_given_for_all() -> None:
    own = EngineSettings.model_fields.keys() - EngineDefaults.model_fields.keys()
    assert own == {"url", "host", "address"}


# --- how a role is reached ---


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"port": 9394}, (NamedPort(9394),)),
        ({"port": "9394, puma=9395"}, (NamedPort(9394), NamedPort(9395, "puma"))),
        ({"port": [9394, "puma=9395"]}, (NamedPort(9394), NamedPort(9395, "puma"))),
        ({"path": "/m"}, "/m"),
        ({"scheme": "https"}, "https"),
        ({"interval": "15s"}, "15s"),
        ({"timeout": " 15s "}, "15s"),
        ({"scrape": False}, False),
        ({"address": "alias"}, "alias"),
        ({"address": "published"}, "published"),
        ({"network": "private"}, "private"),
        ({"alias": "{service}-{role}"}, "{service}-{role}"),
        ({"instance": "{host}/{slot}:{port}{port_name}"}, "{host}/{slot}:{port}{port_name}"),
        ({"labels": {"env": "prod", "__param_module": 5}}, {"env": "prod", "__param_module": "5"}),
    ],
)
def test_an_endpoint_takes(given: Mapping[str, Any], value: object) -> None:
    ((name, _),) = given.items()
    assert getattr(settings(defaults=given).defaults, name) == value
    assert getattr(settings(roles=[given]).roles[0], name) == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"port": 70000}, "port: Value error, '70000' is no port"),
        ({"port": []}, "port: Value error, '' is no port"),
        ({"port": [9394, 9394]}, "port: Value error, '9394,9394' gives one number to two ports"),
        ({"port": 9394.5}, "port: Value error, '9394.5' is no port"),
        ({"port": True}, "port: Value error, True must be a text"),
        ({"port": {"puma": 1}}, "port: Value error, {'puma': 1} must be a text"),
        ({"port": [[1]]}, "port: Value error, [1] must be a text"),
        (
            {"path": "metrics"},
            "path: Value error, 'metrics' is no path; it must begin with a slash",
        ),
        ({"scheme": "ftp"}, "scheme: Input should be 'http' or 'https'"),
        ({"interval": 15}, "interval: Value error, '15' is no duration; write it like 30s"),
        ({"interval": "0s"}, "interval: Value error, '0s' must be longer than nothing"),
        ({"timeout": False}, "timeout: Value error, False must be a text"),
        ({"address": "public"}, "address: Input should be "),
        (
            {"alias": "{port}"},
            "alias: Value error, '{port}' has the place {port}; it can have {slot}",
        ),
        ({"alias": ""}, "alias: Value error, is empty; leave the key out instead"),
        ({"instance": "{version}"}, "instance: Value error, '{version}' has the place {version}"),
        ({"labels": {"a-b": "x"}}, "labels.a-b.[key]: Value error, 'a-b' is no label name"),
        (
            {"labels": {"role": "x"}},
            "labels.role.[key]: Value error, kamal-sd gives the label role",
        ),
        ({"labels": {"instance": "x"}}, "labels.instance.[key]: Value error, kamal-sd gives"),
        (
            {"labels": {"__address__": "x"}},
            "labels.__address__.[key]: Value error, '__address__' is res",
        ),
        (
            {"labels": {"__meta_x": "x"}},
            "labels.__meta_x.[key]: Value error, '__meta_x' is reserved",
        ),
        (
            {"labels": {"a": "x\ny"}},
            r"labels.a: Value error, 'x\ny' has a character that cannot be",
        ),
        (
            {"labels": {"a": "\ud800"}},
            r"labels.a: Value error, '\ud800' has a character that cannot",
        ),
        ({"labels": {"a": True}}, "labels.a: Value error, True must be a text"),
        ({"labels": {"a": None}}, "labels.a: Value error, None must be a text"),
        ({"labels": ["a"]}, "labels: "),
    ],
)
def test_an_endpoint_does_not_take(given: Mapping[str, Any], words: str) -> None:
    assert problem(defaults=given).startswith(f"defaults.{words}")
    assert problem(roles=[given]).startswith(f"roles.0.{words}")


@pytest.mark.parametrize("instance", ["{slot}\n", "\ud800", "a\x00"])
def test_an_instance_that_could_not_be_in_an_answer_is_refused(instance: str) -> None:
    # It is in every answer: one that cannot be written would cost all of them.
    assert problem(defaults={"instance": instance}).startswith("defaults.instance: ")


@pytest.mark.parametrize("section", ["defaults", "roles"])
def test_a_timeout_is_within_its_interval(section: str) -> None:
    given = {"interval": "5s", "timeout": "6s"}
    found = problem(**{section: given if section == "defaults" else [given]})
    assert found.endswith("timeout 6s is longer than interval 5s; shorten it")


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({}, True),
        ({"role": "web"}, True),
        ({"role": "job"}, False),
        ({"host": "h", "service": "shop", "role": "web", "destination": ""}, True),
        ({"destination": "prod"}, False),
    ],
)
def test_a_role_entry_is_about_the_slots_that_have_its_values(
    given: Mapping[str, Any], matches: bool
) -> None:
    assert RoleSettings(**given).matches("h", "shop", "web", "") is matches


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().listen = "x"
    with pytest.raises(ValidationError, match="frozen"):
        EndpointSettings().path = "/x"


def test_a_peer_may_be_its_address_alone() -> None:
    (peer,) = settings(peers=["http://192.0.2.10:9889/"]).peers
    assert peer == PeerSettings(url="http://192.0.2.10:9889")


@pytest.mark.parametrize(
    "url",
    [
        "192.0.2.10:9889",
        "tcp://192.0.2.10:9889",
        "http://",
        "http://a/?b",
        "http://a/#b",
        "http://u@a",
    ],
)
def test_what_is_no_address_of_a_peer(url: str) -> None:
    assert problem(peers=[url]).startswith(f"peers.0.url: Value error, {url!r} is no kamal-sd")
