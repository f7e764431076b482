"""Reading the settings: a YAML file and the environment, and every mistake with its line."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource
from pydantic_settings import SettingsError as UnreadableVariableError

from app.settings import (
    DEFAULT_ENGINE_URL,
    ENVIRONMENT_PREFIX,
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

# Read by the command line; not settings.
_OTHER_VARIABLES = frozenset(ENVIRONMENT_PREFIX + name for name in ("CONFIG", "URL", "TOKEN_FILE"))

# A place in the settings: keys and list indexes from the top.
Place = tuple[str | int, ...]
# Where each place stands in a file, spelled as there.
Lines = Mapping[tuple[str, ...], int]
# What may stand at a place, for a hint at what was meant.
FieldsAt = Callable[[Place], Mapping[str, object]]

# What is made of these at the start outlives all settings.
_FIXED = ("listen", "data_dir", "web_config")

# Between a section and its key in the name of a variable.
_BELOW = "__"
_SECTIONS: dict[str, type[BaseModel]] = {
    "engine_defaults": EngineDefaults,
    "defaults": EndpointSettings,
    "aliases": AliasSettings,
    "proxy": ProxySettings,
    "relay": RelaySettings,
    "reload": ReloadSettings,
}
_LISTS: dict[str, type[BaseModel]] = {
    "engines": EngineSettings,
    "peers": PeerSettings,
    "roles": RoleSettings,
}
_OF_AN_ENGINE: dict[str, type[BaseModel]] = {"tls": TlsSettings, "ssh": SshSettings}


class Problem(NamedTuple):
    """One mistake in the settings. `line` is None where it came from the environment."""

    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.key}: {self.message}" if self.key else f"{place}{self.message}"


class SettingsError(Exception):
    """The settings cannot be used. `problems` has every mistake found, in the file's order."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))
        self.source = source
        self.problems = problems


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, object] | None = None,
) -> Settings:
    """The settings of options, else of the environment, else of a YAML file. Raises SettingsError.

    Where no engine is set, DOCKER_HOST names it, else it is the socket at its usual place. With
    peers there may be none: `engines: []`.
    """
    return _load(path, os.environ if environ is None else environ, options or {})[0]


class Source:
    """A file, and options that win over it and the environment, to be read again and again."""

    def __init__(
        self, path: Path | None = None, options: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        self._path = path
        self._options = options
        self._loaded: bytes | None = None
        self._seen: tuple[bytes | None, float] = (None, 0.0)

    def __str__(self) -> str:
        return _name(self._path)

    def load(self) -> Settings:
        """The settings as they are now. Raises SettingsError."""
        return self._load()[0]

    def reload(self, running: Settings) -> Settings:
        """The settings as they are now, to take the place of others without a restart.

        Raises SettingsError, also where that cannot be.
        """
        settings, lines = self._load()
        problems = [
            Problem(
                _line(lines, (name,)),
                name,
                f"cannot change while kamal-sd runs; restart it, or keep {_shown(running, name)}",
            )
            for name in _FIXED
            if getattr(settings, name) != getattr(running, name)
        ]
        if problems:
            raise SettingsError(str(self), problems)
        return settings

    def is_changed(self) -> bool:
        """Whether the file holds something else than was loaded, and lay still since the last look.

        Whoever writes it may do it piece by piece, and a piece may look like a whole.
        """
        content = self._content()
        seen = content, self._written_at()
        is_still, self._seen = seen == self._seen, seen
        return is_still and content != self._loaded

    def _load(self) -> tuple[Settings, Lines]:
        # Read before, so that what is written meanwhile is a change.
        self._loaded = self._content()
        return _load(self._path, os.environ, self._options)

    def _written_at(self) -> float:
        try:
            return self._path.stat().st_mtime if self._path else 0.0
        except OSError:
            return 0.0

    def _content(self) -> bytes | None:
        try:
            return self._path.read_bytes() if self._path else None
        except OSError:
            return None


def _shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    return "its default" if value is None else str(value)


def _name(path: Path | None) -> str:
    return str(path) if path else "environment"


def _load(
    path: Path | None, environ: Mapping[str, str], options: Mapping[str, object]
) -> tuple[Settings, Lines]:
    # Alone first, so that no mistake in a variable is looked for in the file.
    if problems := _problems_of_environment(environ):
        raise SettingsError("environment", problems)
    source = _name(path)
    document, lines = read(path, "listen: 0.0.0.0:9889") if path else ({}, {})
    try:
        settings = _merged(document, options)
    except ValidationError as error:
        raise SettingsError(source, problems_of(error, lines, _fields_at)) from None
    settings = settings.model_copy(update={"engines": _engines(settings, environ)})
    problems = [problem_at(lines, place, message) for place, message in _conflicts(settings)]
    if problems:
        raise SettingsError(source, problems)
    return settings, lines


def _merged(document: Mapping[str, object], options: Mapping[str, object]) -> Settings:
    # They go through as whatever it is called with does: to its sources.
    given: dict[str, Any] = {"document": document, "options": options}
    return _MergedSettings(**given)


class _MergedSettings(Settings):
    """The settings of the `options`, else of the environment, else of the `document`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = init_settings()
        first, last = (
            InitSettingsSource(settings_cls, init_kwargs=dict(given[name]))
            for name in ("options", "document")
        )
        return first, env_settings, last


def _engines(settings: Settings, environ: Mapping[str, str]) -> tuple[EngineSettings, ...]:
    # Kamal tells each container, accessories too, by which name it reaches this host.
    host = environ.get("KAMAL_HOST", "")
    engines = settings.engines
    if settings.peers and not engines and "engines" in settings.model_fields_set:
        return ()
    if not engines:
        url = environ.get("DOCKER_HOST") or DEFAULT_ENGINE_URL
        try:
            engines = (
                EngineSettings.model_validate(
                    {**settings.engine_defaults.fitting(url), "url": url}
                ),
            )
        except ValidationError as error:
            raise SettingsError("environment", [_problem_of_docker_host(error)]) from None
    if len(engines) == 1:
        (engine,) = engines
        # An engine at another host than this one has that host's address.
        here = "" if engine.is_named_by_url else host
        named = {"host": engine.host or host, "address": engine.address or here}
        return (engine.model_copy(update=named),)
    return tuple(
        each if each.host else each.model_copy(update={"host": each.host_in_url})
        for each in engines
    )


def _problem_of_docker_host(error: ValidationError) -> Problem:
    return Problem(None, "DOCKER_HOST", _words(error.errors()[0]["msg"]))


def _conflicts(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What is wrong between entries that are each right."""
    hosts: set[str] = set()
    for index, engine in enumerate(settings.engines):
        if len(settings.engines) > 1 and not engine.host:
            yield ("engines", index), "needs a host: with several engines each has its own name"
        elif engine.host in hosts:
            yield ("engines", index, "host"), f"{engine.host!r} is another engine's; make it unique"
        hosts.add(engine.host)
    urls: set[str] = set()
    for index, peer in enumerate(settings.peers):
        if peer.url in urls:
            yield ("peers", index), f"{peer.url} is listed already"
        urls.add(peer.url)
    instances: set[str] = set()
    for index, role in enumerate(settings.roles):
        if role.instance in instances and "{" not in role.instance:
            yield (
                ("roles", index, "instance"),
                f"{role.instance!r} is another role's; make it unique, or use {{slot}}",
            )
        instances.add(role.instance or "")
    if settings.proxy.state_file and not settings.engine_of_this_host:
        message = "is of this host's kamal-proxy; of several engines just one may be at unix://"
        yield ("proxy", "state_file"), message
    if settings.file_sd and "relay" in settings.addresses and not settings.relay.address:
        message = "has targets with address: relay; set relay.address, like kamal-sd:9889"
        yield ("file_sd",), message


def _problems_of_environment(environ: Mapping[str, str]) -> list[Problem]:
    if strangers := [Problem(None, name, message) for name, message in _strangers(environ)]:
        return strangers
    try:
        _merged({}, {})
    except UnreadableVariableError as error:
        # It tells the field in its message alone.
        (field,) = re.findall(r'for field "(\w+)"', str(error))
        name, _ = _variable((field,), environ)
        example = json.dumps([{"url": DEFAULT_ENGINE_URL}])
        return [Problem(None, name, f"is not JSON, as a list or a section must be: {example}")]
    except ValidationError as error:
        return [_problem_of_variable(detail, environ) for detail in error.errors()]
    return []


def _strangers(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables with our prefix that set nothing: pydantic-settings passes them over in silence."""
    for name in environ:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in _OTHER_VARIABLES:
            path = name.removeprefix(ENVIRONMENT_PREFIX).lower()
            field, below, _ = path.partition(_BELOW)
            if field not in Settings.model_fields:
                yield name, f"sets nothing{_hint(field, Settings.model_fields, ENVIRONMENT_PREFIX)}"
            elif below and field not in _SECTIONS:
                yield name, f"sets nothing: {field} is no section; set {name.partition(_BELOW)[0]}"


def _problem_of_variable(detail: ErrorDetails, environ: Mapping[str, str]) -> Problem:
    problem = _problem(detail, {}, _fields_at)
    name, rest = _variable(_place(detail), environ)
    return problem._replace(key=name + _dotted(rest))


def _variable(place: Place, environ: Mapping[str, str]) -> tuple[str, Place]:
    """The variable that sets that place, and where in its JSON the place is."""
    names = {name.upper(): name for name in environ}
    for length in range(len(place), 0, -1):
        name = ENVIRONMENT_PREFIX + _BELOW.join(map(str, place[:length])).upper()
        if name in names:
            return names[name], place[length:]
    # Several variables that do not go together.
    return ENVIRONMENT_PREFIX + str(place[0]).upper(), place[1:]


def read(path: Path, example: str) -> tuple[Mapping[str, object], Lines]:
    """The document of a YAML file, and the line of every place in it. Raises SettingsError.

    `example` is a key with its value, for whoever wrote none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, _Loader)
        document = yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise SettingsError(str(path), [Problem(None, "", message)]) from None
    except UnicodeDecodeError:
        raise SettingsError(str(path), [Problem(None, "", "is not UTF-8 text")]) from None
    except yaml.reader.ReaderError as error:
        problem = Problem(
            text.count("\n", 0, error.position) + 1, "", f"is not YAML: {error.reason}"
        )
        raise SettingsError(str(path), [problem]) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        message = f"is not YAML: {getattr(error, 'problem', None) or error}"
        raise SettingsError(str(path), [Problem(line, "", message)]) from None
    if document is None:
        return {}, {}
    if not isinstance(document, dict):
        message = f"must hold keys and values, like {example}"
        raise SettingsError(str(path), [Problem(1, "", message)])
    lines: dict[tuple[str, ...], int] = {}
    if problems := list(_walk(node, (), lines, ())):
        raise SettingsError(str(path), problems)
    return document, lines


class _Loader(yaml.SafeLoader):
    """YAML without dates: no setting is one, and a wrong one would be an error without a line."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _walk(
    node: yaml.Node | None,
    place: Place,
    lines: dict[tuple[str, ...], int],
    above: tuple[yaml.Node, ...],
) -> Iterator[Problem]:
    """Fills in the lines below a node; yields what readers of YAML let pass, and we do not."""
    if node in above:
        yield problem_at(lines, place, "holds itself")
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*place, str(key.value))
            line = key.start_mark.line + 1
            if not place and not key.tag.endswith((":str", ":merge")):
                yield Problem(line, key.value, "is no setting; its name must be a text")
            if (spelled := _spelled(below)) in lines:
                message = f"stands on line {lines[spelled]} already; keep one"
                yield Problem(line, _dotted(below), message)
            lines[spelled] = line
            yield from _walk(value, below, lines, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[_spelled((*place, index))] = item.start_mark.line + 1
            yield from _walk(item, (*place, index), lines, (*above, node))


def problem_at(lines: Lines, place: Place, message: str) -> Problem:
    """What is wrong at that place of a file."""
    return Problem(_line(lines, place), _dotted(place), message)


def problems_of(error: ValidationError, lines: Lines, fields_at: FieldsAt) -> list[Problem]:
    """What pydantic found in a file, in the file's order."""
    problems = [_problem(detail, lines, fields_at) for detail in error.errors()]
    return sorted(problems, key=lambda problem: problem.line or 0)


def _problem(detail: ErrorDetails, lines: Lines, fields_at: FieldsAt) -> Problem:
    place = _place(detail)
    message = _words(detail["msg"])
    if detail["type"] == "extra_forbidden":
        message = f"is no setting{_hint(str(place[-1]), fields_at(place[:-1]))}"
    elif detail["type"] == "tuple_type":
        message = "must be a list, each entry on a line that begins with a dash"
    return problem_at(lines, place, message)


def _place(detail: ErrorDetails) -> Place:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _words(message: str) -> str:
    return message.removeprefix("Value error, ")


def _line(lines: Lines, place: Place) -> int | None:
    """The line of the place, or of the nearest one above it that the file has."""
    spelled = _spelled(place)
    while spelled:
        if spelled in lines:
            return lines[spelled]
        spelled = spelled[:-1]
    return None


def _spelled(place: Place) -> tuple[str, ...]:
    # As a file has it: a key may be a number there, too.
    return tuple(map(str, place))


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _fields_at(place: Place) -> Mapping[str, object]:
    known = _SECTIONS | _LISTS | _OF_AN_ENGINE
    names = [part for part in place if isinstance(part, str)]
    return (known[names[-1]] if names else Settings).model_fields


def _hint(name: str, known: Mapping[str, object], prefix: str = "") -> str:
    close = get_close_matches(name, known, n=1)
    if not close:
        return f"; known are {', '.join(known)}"
    return f"; did you mean {prefix + close[0].upper() if prefix else close[0]}?"
