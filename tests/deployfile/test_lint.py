"""The rules, on whole files: each line that is wrong says in a comment what finds it."""

import re
from pathlib import Path

import pytest

from app.deployfile import erb
from app.deployfile.document import Node, UnreadableError, merged, read, unknown_keys
from app.deployfile.lint import Finding, Held, findings
from app.deployfile.roles import App, app_of

FILES = Path(__file__).with_name("files")
NAMES = [
    each.name
    for each in sorted(FILES.glob("*.yml"))
    if "staging" not in each.name and each.name != "broken.yml"
]


def document(name: str) -> Node:
    return read(name, erb.plain((FILES / name).read_text()).text)


def apps(name: str) -> list[App]:
    base = document(name)
    over = name.replace(".yml", ".staging.yml")
    found = [app_of(base)]
    if (FILES / over).exists():
        found.append(app_of(merged(base, document(over)), "staging"))
    return found


def lint(text: str, *held: Held) -> list[Finding]:
    return findings([app_of(read("deploy.yml", erb.plain(text).text))], held)


def marks(text: str) -> list[tuple[int, str]]:
    """The lines that say what finds them, and what they say."""
    lines = enumerate(text.splitlines(), 1)
    return [(number, it[1]) for number, line in lines if (it := re.search(r"finds: (\S+)", line))]


@pytest.mark.parametrize("name", NAMES)
def test_each_file_has_the_findings_that_it_says(name: str) -> None:
    found = findings(apps(name))
    assert [(each.line, each.rule) for each in found] == marks((FILES / name).read_text())
    assert all(each.file == name and each.why for each in found)


def test_an_alias_of_an_accessory_counts_too() -> None:
    text = (
        "service: shop\nservers:\n  web:\n    hosts: [a]\n    options: {network-alias: shop}\n"
        '    labels: {prometheus.port: "9394"}\n'
        "accessories:\n  exporter:\n    host: a\n    options: {network-alias: shop}\n"
    )
    (found,) = lint(text)
    assert (found.rule, found.line) == ("shared-alias", 10)
    assert "by accessory exporter and by role web" in found.why


def test_where_a_tag_is_not_looked_for() -> None:
    found = [each for each in findings(apps("tags.yml")) if each.rule == "lost-tag"]
    assert "accessory exporter" in found[0].why
    assert "is not on 192.0.2.15;" in found[0].why
    hosts = ["192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.15"]
    assert found[0].instead == ("hosts:", *(f"  - {host}" for host in hosts))


def test_the_proxy_may_be_that_of_an_accessory() -> None:
    text = (
        'servers: {web: {hosts: [a], labels: {prometheus.port: "9090"}}}\n'
        "accessories: {x: {host: a, proxy: {run: {metrics_port: 9090}}}}\n"
    )
    assert [(each.line, each.rule) for each in lint(text)] == [(1, "proxy-port")]


def test_a_tag_that_only_ruby_knows_finds_nothing() -> None:
    text = (
        'labels: {prometheus.port: "9394"}\n'
        "servers: {web: [a: <%= x %>, <%= y %>: one], job: {hosts: [b: <%= x %>]}}\n"
        "accessories: {x: {tag: <%= x %>}, y: {tag: one}}\n"
    )
    assert lint(text) == []
    (x, y) = app_of(read("deploy.yml", erb.plain(text).text)).accessories
    assert x.hosts == y.hosts == frozenset()


def test_a_tab_has_its_line() -> None:
    with pytest.raises(UnreadableError, match="cannot start any token") as caught:
        document("broken.yml")
    assert caught.value.line == 3


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [", 1, "is not YAML"),
        ("a: 1\nb: &x [*x]\n", 2, "holds itself"),
        ("- 1\n", 1, "must hold keys"),
        ("a: \x00", 1, "is not YAML"),
        ("a: " + "[" * 3000, 1, "nested too deeply"),
        ("a" * 1_000_001, 1, "is longer than"),
    ],
)
def test_what_cannot_be_read_has_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(UnreadableError, match=words) as caught:
        read("deploy.yml", text)
    assert caught.value.line == line


def test_aliases_that_multiply_cost_nothing() -> None:
    lines = ["x0: &x0 {a: <%= 1 %>}"]
    lines += [f"x{n}: &x{n} {{a: *x{n - 1}, b: *x{n - 1}}}" for n in range(1, 60)]
    bomb = read("deploy.yml", erb.plain("\n".join(lines)).text)
    assert len(unknown_keys(merged(bomb, bomb))) < 200


def test_erb_keeps_the_lines() -> None:
    text = "a: <%= x %>\n<% if y\n%>\nb: <%%= 1 %>\n<%# no %>\nc: 1"
    plain = erb.plain(text)
    assert plain.text == f"a: {erb.UNKNOWN}\n\n\nb: <%= 1 %>\n\nc: 1"
    assert (plain.computed, plain.steered) == ((1,), (2,))


def test_who_holds_an_alias_on_the_engine() -> None:
    held = [Held("kamal", "shop-web", "container x"), Held("other", "shop-job", "container y")]
    found = findings(apps("good.yml"), held)
    assert [(each.line, each.rule) for each in found] == [(12, "held-alias")]
    assert "container x" in found[0].why


@pytest.mark.parametrize(
    "text",
    [
        "",
        "servers:\n",
        "servers: 5\n",
        "servers: {web: 5}\nlabels: [1]\nservice: [1]\naccessories: 1\n",
        "accessories: {a: , b: {hosts: 1, options: 1, roles: {a: 1}}}\n",
        "servers: {web: {options: [1], labels: 1, hosts: {a: {}}}}\n",
    ],
)
def test_odd_shapes_are_no_failure(text: str) -> None:
    assert {each.rule for each in lint(text)} <= {"no-metrics-port"}


def test_a_file_that_requires_a_destination_is_none_itself() -> None:
    base, over = document("inherited.yml"), document("inherited.staging.yml")
    base = merged(base, read("x", "require_destination: true"))
    assert findings([app_of(base), app_of(merged(base, over), "staging")]) == []
