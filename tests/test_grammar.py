from collections.abc import Callable

import pytest

from app import grammar
from app.grammar import NamedPort


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        (" 90s ", 90.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1y2w3d4h5m6s7ms", 31_536_000 + 14 * 86_400 + 3 * 86_400 + 14_400 + 306.007),
        ("0s", 0.0),
        ("292y", 292 * 31_536_000),
    ],
)
def test_a_duration_is_spelled_as_in_prometheus(text: str, seconds: float) -> None:
    assert grammar.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "is no duration", id="empty"),
        pytest.param("  ", "is no duration", id="blank"),
        pytest.param("90", "write it like 30s", id="no unit"),
        pytest.param("1s1m", "is no duration", id="units in another order"),
        pytest.param("1.5h", "is no duration", id="a fraction"),
        pytest.param("-5s", "is no duration", id="negative"),
        pytest.param("5 s", "is no duration", id="a space inside"),
        pytest.param("5S", "is no duration", id="capitals"),
        pytest.param("٣s", "is no duration", id="digits of another script"),
        pytest.param("5s\n6s", "is no duration", id="two lines"),
        pytest.param("1234567890s", "is no duration", id="ten digits"),
        pytest.param("293y", "292 years", id="more nanoseconds than 64 bits hold"),
    ],
)
def test_what_is_no_duration_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grammar.duration(text)


def test_a_scrape_duration_is_given_back_as_written() -> None:
    assert grammar.scrape_duration(" 1m30s ") == "1m30s"


@pytest.mark.parametrize("text", ["0s", "0ms", "0m0s"])
def test_nothing_is_scraped_every_zero_seconds(text: str) -> None:
    with pytest.raises(ValueError, match="must be longer than nothing"):
        grammar.scrape_duration(text)


def test_a_timeout_may_be_as_long_as_its_interval_and_no_longer() -> None:
    grammar.timeout_within("1m", "60s")
    with pytest.raises(ValueError, match="timeout 61s is longer than interval 1m; shorten it"):
        grammar.timeout_within("61s", "1m")


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("1", (NamedPort(1),)),
        ("65535", (NamedPort(65_535),)),
        (" 9394 ", (NamedPort(9394),)),
        ("9394, puma=9395", (NamedPort(9394), NamedPort(9395, "puma"))),
        ("a = 1 ,b= 2", (NamedPort(1, "a"), NamedPort(2, "b"))),
    ],
)
def test_ports_are_numbers_with_a_name_where_wanted(
    text: str, ports: tuple[NamedPort, ...]
) -> None:
    assert grammar.ports(text) == ports


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no port; write a number from 1 to 65535"),
        ("0", "'0' is no port"),
        ("65536", "'65536' is no port"),
        ("70000", "'70000' is no port"),
        ("123456", "is no port"),
        ("-1", "is no port"),
        ("9394/tcp", "is no port"),
        ("0x24", "is no port"),
        ("٣", "is no port"),
        ("9394,", "'' is no port"),
        ("9394 9395", "is no port"),
        ("puma=", "'' is no port"),
        ("pu ma=9394", "'pu ma' is no name for a port"),
        ("a=b=9394", "'a=b' is no name for a port"),
        ("é=9394", "is no name for a port"),
        ("n" * 64 + "=9394", "is no name for a port"),
        ("9394,9394", "gives one number to two ports"),
        ("a=9394,b=9394", "gives one number to two ports"),
        ("a=9394,a=9395", "gives one name to two ports"),
    ],
)
def test_what_is_no_port_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grammar.ports(text)


def test_several_ports_may_go_without_a_name() -> None:
    assert grammar.ports("1,2") == (NamedPort(1), NamedPort(2))


Check = Callable[[str], object]


@pytest.mark.parametrize(
    ("check", "text", "value"),
    [
        (grammar.path, "/metrics", "/metrics"),
        (grammar.path, "/", "/"),
        (grammar.scheme, "http", "http"),
        (grammar.scheme, "https", "https"),
        (grammar.boolean, "true", True),
        (grammar.boolean, " False ", False),
        (grammar.host_name, "shop-web", "shop-web"),
        (grammar.host_name, "a", "a"),
        (grammar.host_name, "_a.b_c.d9", "_a.b_c.d9"),
        (grammar.host_name, "a" * 253, "a" * 253),
        (grammar.label_name, "_env2", "_env2"),
        (grammar.authority, "kamal-sd:9889", "kamal-sd:9889"),
        (grammar.authority, "10.0.0.1:1", "10.0.0.1:1"),
        (grammar.authority, "[fd00::1]:65535", "[fd00::1]:65535"),
    ],
)
def test_what_is_right_is_given_back(check: Check, text: str, value: object) -> None:
    assert check(text) == value


@pytest.mark.parametrize(
    ("check", "text", "words"),
    [
        (grammar.path, "", "must begin with a slash"),
        (grammar.path, "metrics", "must begin with a slash, like /metrics"),
        (grammar.path, "/a b", "leave out spaces"),
        (grammar.path, "/a?b=c", "a parameter is a label: __param_name"),
        (grammar.path, "/a#b", "leave out spaces"),
        (grammar.path, "/a\nb", "leave out spaces"),
        (grammar.path, "/\ud800", "leave out spaces"),
        (grammar.scheme, "ftp", "write http or https"),
        (grammar.scheme, "HTTP", "write http or https"),
        (grammar.scheme, "", "write http or https"),
        (grammar.boolean, "yes", 'neither "true" nor "false"'),
        (grammar.boolean, "", 'neither "true" nor "false"'),
        (grammar.host_name, "", "is no host name"),
        (grammar.host_name, "a..b", "is no host name"),
        (grammar.host_name, ".a", "is no host name"),
        (grammar.host_name, "a.", "is no host name"),
        (grammar.host_name, "-a", "is no host name"),
        (grammar.host_name, "a-", "is no host name"),
        (grammar.host_name, "a b", "is no host name"),
        (grammar.host_name, "a/b", "is no host name"),
        (grammar.host_name, "a:1", "is no host name"),
        (grammar.host_name, "é", "is no host name"),
        (grammar.host_name, "a\n", "is no host name"),
        (grammar.host_name, "a" * 254, "is no host name"),
        (grammar.label_name, "", "is no label name"),
        (grammar.label_name, "9a", "no digit first"),
        (grammar.label_name, "a-b", "is no label name"),
        (grammar.label_name, "é", "is no label name"),
        (grammar.label_name, "a\n", "is no label name"),
        (grammar.authority, "", "has no port; write it like kamal-sd:9889"),
        (grammar.authority, "kamal-sd", "has no port"),
        (grammar.authority, "kamal-sd:", "has no port"),
        (grammar.authority, "kamal-sd:http", "has no port"),
        (grammar.authority, "kamal-sd:0", "has no port"),
        (grammar.authority, "kamal-sd:65536", "has no port"),
        (grammar.authority, "kamal-sd:\u0661", "has no port"),
        (grammar.authority, "kamal-sd:1\n", "has no port"),
        (grammar.authority, ":9889", "is no host name"),
        (grammar.authority, "http://kamal-sd:9889", "is no host name"),
        (grammar.authority, "root@kamal-sd:9889", "is no host name"),
        (grammar.authority, "fd00::1:9889", "is no host name"),
        (grammar.authority, "[fd00::x]:9889", "x"),
        (grammar.authority, "[fe80::1%eth0]:9889", "is an address of one host alone"),
        (grammar.authority, "[kamal-sd]:9889", "kamal-sd"),
        (grammar.authority, "[]:9889", "cannot be empty"),
    ],
)
def test_what_is_wrong_is_refused_with_its_mend(check: Check, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(text)


@pytest.mark.parametrize("text", ["{slot}:{port}", "plain", "{slot}{slot}", "{{literal}}"])
def test_a_template_has_the_places_that_can_be_filled(text: str) -> None:
    assert grammar.template(text, ("slot", "port")) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "leave the key out instead"),
        ("{slot", "a brace that does not close"),
        ("slot}", "a brace that does not close"),
        ("{}", "it can have {slot}, {port}"),
        ("{0}", "it can have {slot}, {port}"),
        ("{name}", "has the place {name}; it can have {slot}, {port}"),
        ("{slot.__class__}", "it can have {slot}, {port}"),
        ("{slot[0]}", "it can have {slot}, {port}"),
        ("{slot!r}", "it can have {slot}, {port}"),
        ("{slot:>99999999999}", "it can have {slot}, {port}"),
        ("{slot:{port}}", "it can have {slot}, {port}"),
    ],
)
def test_a_template_has_no_other_places(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grammar.template(text, ("slot", "port"))
