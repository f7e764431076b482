"""The arrows of the design: imports run one way, downwards; third parties stay in their rooms."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

APP = Path(__file__).parent.parent / "app"

# What each part may import of the others. A part is a package or a module right below app/.
DOWNWARDS = {
    "__main__": {"cli"},
    "cli": {
        *(
            "server",
            "access",
            "web_config",
            "alias_keeper",
            "peers",
            "engine",
            "discovery",
            "deployfile",
        ),
        *("model", "settings", "settings_file", "grammar"),
    },
    "server": {
        *("web", "service", "reloader", "logs", "engine", "state", "settings", "settings_file"),
        *("access", "server_tls", "protocol", "tls_protocol", "doorkeeper"),
    },
    "reloader": {"state", "settings", "settings_file"},
    "service": {
        *("engine", "peers", "state", "view", "storage", "file_sd", "follower", "alias_keeper"),
        *("discovery", "model", "settings"),
    },
    "logs": set(),
    "tls_protocol": {"protocol"},
    "protocol": {"ready", "request_head"},
    "request_head": set(),
    "ready": set(),
    "doorkeeper": set(),
    "polling": set(),
    "access": {"polling", "server_tls", "web_config", "settings_file"},
    "server_tls": {"web_config", "settings_file"},
    "web_config": {"settings_file", "grammar"},
    "peers": {"peer_client", "storage", "discovery", "model", "settings"},
    "peer_client": {"peer_credentials", "discovery", "settings"},
    "peer_credentials": {"settings"},
    "alias_keeper": {"view", "engine", "discovery"},
    "web": {
        *("access", "web_config", "peer_credentials", "ready"),
        *("state", "view", "metrics", "discovery", "model", "settings", "grammar"),
    },
    "engine": {"polling", "model"},
    "metrics": {"state", "view", "discovery", "model"},
    "file_sd": {"state", "view", "follower"},
    "follower": {"state", "view"},
    "state": {"view", "discovery", "model", "settings"},
    "view": {"discovery", "model", "settings"},
    "storage": {"discovery", "model"},
    "deployfile": {"grammar"},
    "discovery": {"model", "settings", "grammar"},
    "settings_file": {"settings"},
    "settings": {"grammar"},
    "model": set[str](),
    "grammar": set[str](),
}
# Each third party's room: parts, or single modules of a part.
ROOMS = {
    "docker": {"engine"},
    "requests": {"engine"},
    "urllib3": {"engine"},
    "fastapi": {"web"},
    "httpcore": {"peer_client"},
    "starlette": {"web"},
    "uvicorn": {"server", "protocol", "tls_protocol"},
    "httptools": {"protocol", "web"},
    "prometheus_client": {"metrics"},
    "bcrypt": {"web"},
    "pydantic": {"__main__", "settings", "settings_file", "web_config", "storage", "peers", "cli"},
    "pydantic_core": {"settings_file"},
    "pydantic_settings": {"settings", "settings_file"},
    "yaml": {"settings_file", "deployfile"},
    "typer": {"cli"},
    "rich": {"cli"},
    "jinja2": {"web"},
    "typing_extensions": {"discovery"},
}
# What is pure may take from the standard library: no time, no I/O, no chance, no threads.
PURE = ["model", "grammar", "deployfile", "discovery", "engine.parse", "engine.ledger"]
PURE_LIBRARY = {
    "collections", "contextlib", "dataclasses", "enum", "fnmatch", "functools", "hashlib",
    "ipaddress", "itertools", "json", "re", "string", "types", "typing", "urllib.parse", "zlib",
}  # fmt: skip
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


class Import(NamedTuple):
    """One import, and where it stands."""

    module: str
    imported: str
    line: int

    @property
    def part(self) -> str:
        return self.module.partition(".")[0]

    @property
    def package(self) -> str:
        return self.imported.partition(".")[0]

    def __str__(self) -> str:
        return f"app.{self.module}, line {self.line}: {self.imported}"


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of app by its name without `app.`; a package by its own name."""
    found = {}
    for path in sorted(APP.rglob("*.py")):
        parts = path.relative_to(APP).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


@cache
def imports() -> tuple[Import, ...]:
    return tuple(each for name, tree in modules().items() for each in _imports(name, tree))


def _imports(name: str, tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(name, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"app.{name}, line {node.lineno}: a relative import"
            # `from app import grammar` is of the module; `from app import __version__` of the top.
            yield from (
                Import(name, f"{node.module}.{alias.name}", node.lineno) for alias in node.names
            )


def ours() -> Iterator[tuple[Import, str]]:
    """The imports inside app, with the part that each is of; of the top alone is no part."""
    for each in imports():
        if each.package == "app":
            part = each.imported.split(".")[1]
            if part in DOWNWARDS:
                yield each, part


def test_every_part_has_its_place() -> None:
    assert {name.partition(".")[0] for name in modules()} - {""} == set(DOWNWARDS)


def test_imports_run_one_way() -> None:
    wrong = [
        str(each) for each, part in ours() if part != each.part and part not in DOWNWARDS[each.part]
    ]
    assert not wrong


def test_the_arrows_drawn_above_have_no_way_back() -> None:
    # Raises CycleError where there is one.
    list(TopologicalSorter(DOWNWARDS).static_order())
    assert not {"engine", "state", "web", "server", "cli"} & DOWNWARDS["discovery"]
    assert "web" not in DOWNWARDS["engine"]
    assert "engine" not in DOWNWARDS["web"]


def test_inside_a_part_no_two_modules_import_each_other() -> None:
    names = modules().keys()
    graph: dict[str, set[str]] = {name: set() for name in names}
    for each in imports():
        target = each.imported.removeprefix("app.")
        while target and target not in names:
            target = target.rpartition(".")[0]
        if each.package == "app" and target and target != each.module:
            graph[each.module].add(target)
    list(TopologicalSorter(graph).static_order())


def test_third_parties_stay_in_their_rooms() -> None:
    third = [each for each in imports() if each.package not in {"app", *sys.stdlib_module_names}]
    wrong = [str(each) for each in third if each.part not in ROOMS.get(each.package, set())]
    assert not wrong
    assert {each.package for each in third} <= set(ROOMS)


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_takes_nothing_from_the_world(name: str) -> None:
    inside = [each for each in imports() if f"{each.module}.".startswith(f"{name}.")]
    wrong = [
        str(each)
        for each in inside
        if each.package in sys.stdlib_module_names
        and not any(f"{each.imported}.".startswith(f"{pure}.") for pure in PURE_LIBRARY)
    ]
    assert not wrong
    assert inside


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_calls_nothing_of_the_world(name: str) -> None:
    trees = [tree for each, tree in modules().items() if f"{each}.".startswith(f"{name}.")]
    names = [node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assert not IMPURE_BUILTINS.intersection(names)
    assert not [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Global)]


def test_nothing_is_imported_by_its_name_at_run_time() -> None:
    assert not [str(each) for each in imports() if "import_module" in each.imported]
    for tree in modules().values():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert "__import__" not in names
