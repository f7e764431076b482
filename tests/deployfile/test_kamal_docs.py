"""Kamal's own examples: each is read as it is, and each of its parts in a whole deploy.yml."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from app.deployfile import erb
from app.deployfile.document import read, unknown_keys
from app.deployfile.lint import findings
from app.deployfile.roles import App, app_of
from tests.deployfile.test_against_kamal import ask_kamal
from tests.deployfile.test_init import pasted
from tests.deployfile.test_lint import FILES, marks

DOCS = FILES / "kamal-docs"
PATHS = sorted(DOCS.glob("*.yml"))
# What a deploy.yml has besides the example.
AROUND = {
    "service": "shop",
    "image": "shop",
    "servers": {"web": {"hosts": ["192.0.2.10"], "labels": {"prometheus.port": "9394"}}},
    "registry": {"server": "localhost:5000"},
    "builder": {"arch": "amd64"},
}


class Example(NamedTuple):
    """A key of a file with all below it. A file gives alternatives as the same key again."""

    file: str
    line: int
    key: str
    text: str

    @property
    def marks(self) -> list[tuple[int, str]]:
        return [(self.line + number - 1, rule) for number, rule in marks(self.text)]

    @property
    def whole(self) -> str:
        """A deploy.yml with the example in it, on the line that it has in its own file."""
        around = {key: value for key, value in AROUND.items() if key != self.key}
        return "\n" * (self.line - 1) + self.text + "\n" + yaml.safe_dump(around)


def examples(path: Path) -> list[Example]:
    text = path.read_text()
    starts = list(re.finditer(r"(?m)^([a-z_]+):", text))
    ends = [each.start() for each in starts[1:]] + [len(text)]
    return [
        Example(path.name, text.count("\n", 0, each.start()) + 1, each[1], text[each.start() : end])
        for each, end in zip(starts, ends, strict=True)
    ]


EXAMPLES = [each for path in PATHS for each in examples(path)]


def app(text: str) -> App:
    return app_of(read("deploy.yml", erb.plain(text).text))


def example(file: str, number: int) -> App:
    return app(examples(DOCS / file)[number].whole)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_each_file_is_read_as_it_is(path: Path) -> None:
    # Of a key that comes again, Kamal and we take the last.
    last = {each.key: each for each in examples(path)}
    marked = sorted(mark for each in last.values() for mark in each.marks)
    found = findings([app(path.read_text())])
    assert [(each.line, each.rule) for each in found] == marked


@pytest.mark.parametrize("it", EXAMPLES, ids=lambda it: f"{it.file}:{it.line}")
def test_each_example_is_read_in_a_deploy_yml(it: Example) -> None:
    before = app(it.whole)
    found = findings([before])
    assert [(each.line, each.rule) for each in found] == it.marks

    # What init prints mends it all, and leaves each role where it was.
    whole = yaml.safe_load(erb.plain(it.whole).text)
    after = app(yaml.safe_dump(pasted(whole, before)))
    assert {each.rule for each in findings([after])} <= {"shared-alias"}
    assert [(each.name, each.hosts) for each in after.roles] == [
        (each.name, each.hosts) for each in before.roles
    ]


def test_what_only_ruby_knows_is_said() -> None:
    root = read("deploy.yml", erb.plain(examples(DOCS / "registry.yml")[2].whole).text)
    assert [key for _, key in unknown_keys(root)] == ["registry.password"]


def test_a_list_of_hosts_is_the_role_web() -> None:
    (web,) = example("servers.yml", 0).roles
    assert web.name == "web"
    assert web.hosts == {"172.0.0.1", "172.0.0.2", "172.0.0.3"}


def test_hosts_with_tags_are_hosts() -> None:
    (web,) = example("servers.yml", 1).roles
    assert web.hosts == {"172.0.0.1", "172.0.0.2", "172.0.0.3"}
    assert [(host, [each.text for each in tags.items]) for host, tags in web.tags] == [
        ("172.0.0.2", ["experiments"]),
        ("172.0.0.3", ["experiments", "three"]),
    ]


def test_roles_with_and_without_hosts_below_them() -> None:
    web, workers = example("role.yml", 0).roles
    assert web.hosts == {"172.1.0.1", "172.1.0.2"}
    assert workers.hosts == {"172.1.0.3", "172.1.0.4"}


def test_what_only_stands_for_hosts_is_none() -> None:
    assert [each.hosts for each in example("servers.yml", 2).roles] == [frozenset(), frozenset()]


def test_the_port_of_the_example_is_known_for_that_of_the_proxy() -> None:
    text = (DOCS / "proxy.yml").read_text() + yaml.safe_dump(AROUND).replace("9394", "9090")
    (found,) = findings([app(text)])
    line = text[: text.index("metrics_port: 9090")].count("\n") + 1
    assert found.rule == "proxy-port"
    assert f"deploy.yml:{line}" in found.why


def test_the_files_are_those_of_the_installed_kamal(tmp_path: Path) -> None:
    files = 'Gem.loaded_specs["kamal"].full_gem_path + "/lib/kamal/configuration/docs/*.yml"'
    each = '[File.basename(each), File.read(each, encoding: "UTF-8")]'
    ruby = f"Dir[{files}].to_h {{ |each| {each} }}"
    theirs = ask_kamal(tmp_path, yaml.safe_dump(AROUND), ruby)
    assert {
        path.name: re.sub(r"(?m)  # finds: \S+$", "", path.read_text()) for path in PATHS
    } == theirs
    assert {each.file for each in EXAMPLES} == set(theirs)
