"""The rules of both socket proxies, made from deploy/socket-proxy/routes.yml.

`python -m tests.socket_rules` writes them between the marks in the files that have them.
"""

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
ROUTES: Final = ROOT / "deploy/socket-proxy/routes.yml"
HAPROXY: Final = ROOT / "deploy/socket-proxy/haproxy.cfg"
WOLLOMATIC: Final = ROOT / "deploy/accessories/socket-proxy-wollomatic.yml"
# `kamal-sd init` has a copy.
TEMPLATE: Final = ROOT / "app/deployfile/templates/haproxy.cfg"

_ACL: Final = {"GET": "is_question", "POST": "is_move"}
_BEGIN: Final = "# Made of routes.yml by `python -m tests.socket_rules`:\n"
_END: Final = "# End of what is made.\n"
_MARKED: Final = re.compile(f"(?ms)(?<={re.escape(_BEGIN)}).*?(?=^ *{re.escape(_END)})")


class Route(NamedTuple):
    """What may be asked: `path` matches the whole path. With `switch` it is off as shipped."""

    method: str
    path: str
    switch: str = ""
    remark: str = ""


def routes() -> list[Route]:
    """All of them, those that are always on first."""
    found = []
    for part in yaml.safe_load(ROUTES.read_text(encoding="utf-8")):
        for line in part["routes"]:
            method, path = line.split(" ")
            found.append(Route(method, path, part.get("for", ""), part.get("remark", "")))
    return found


def route(request: str) -> Route:
    """The one route that a request line is of."""
    method, target, _ = request.split(" ")
    path = target.partition("?")[0]
    found = [r for r in routes() if r.method == method and re.fullmatch(r.path, path)]
    if len(found) != 1:
        raise LookupError(f"{request} is of {len(found)} routes in {ROUTES.name}: {found}")
    return found[0]


def haproxy() -> list[str]:
    """The lines for HAProxy; of those that are off each is behind a `#`."""
    return _lines(4, [f"acl {_ACL[each.method]} path -m reg ^{each.path}$" for each in routes()])


def wollomatic() -> list[str]:
    """The same as the environment of wollomatic/socket-proxy."""
    count: Counter[str] = Counter()
    variables = []
    for each in routes():
        count[each.method] += 1
        variables.append(f'SP_ALLOW_{each.method}_{count[each.method]}: "{each.path}"')
    return _lines(8, variables)


def _lines(indent: int, rules: list[str]) -> list[str]:
    return list(_explained(" " * indent, rules))


def _explained(margin: str, rules: list[str]) -> Iterator[str]:
    said = ""
    for route, rule in zip(routes(), rules, strict=True):
        if route.switch != said:
            said = route.switch
            words = f"For {said}, take the # away. {route.remark}"
            yield from textwrap.wrap(
                words, 108, initial_indent=f"{margin}# ", subsequent_indent=f"{margin}# "
            )
        yield f"{margin}{'#' if route.switch else ''}{rule}"


FILES: Final[dict[Path, Callable[[], list[str]]]] = {
    HAPROXY: haproxy,
    TEMPLATE: haproxy,
    WOLLOMATIC: wollomatic,
}


def made(file: Path) -> str:
    """The text of a file with the rules that routes.yml makes."""
    rules = "".join(f"{line}\n" for line in FILES[file]())
    text, count = _MARKED.subn(lambda _: rules, file.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(
            f"{file} needs the marks around its rules once, and has them {count} times"
        )
    return text


if __name__ == "__main__":
    for path in FILES:
        path.write_text(made(path), encoding="utf-8")
