"""Reading the settings: a YAML file and the environment, and every mistake with its line."""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from app.settings import (
    DEFAULT_ENGINE_URL,
    ENVIRONMENT_PREFIX,
    EndpointSettings,
    EngineSettings,
    ProxySettings,
    RoleSettings,
    Settings,
)

# Read by the command line; not settings.
_OTHER_VARIABLES = frozenset({f"{ENVIRONMENT_PREFIX}CONFIG", f"{ENVIRONMENT_PREFIX}URL"})

# A place in the settings: keys and list indexes from the top.
_Place = tuple[str | int, ...]


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

    Where no engine is set, DOCKER_HOST names it, else it is the socket at its usual place.
    """
    environ = os.environ if environ is None else environ
    source = str(path) if path else "environment"
    document, lines = _read(path) if path else ({}, {})
    try:
        settings = _merged(document, options or {})
    except ValidationError as error:
        raise SettingsError(source, _problems(error, lines)) from None
    problems = [
        Problem(_line(lines, place), _dotted(place), message)
        for place, message in _conflicts(settings)
    ]
    problems += [Problem(None, name, message) for name, message in _strangers(environ)]
    if problems:
        raise SettingsError(source, problems)
    return settings.model_copy(update={"engines": _engines(settings, environ)})


def _merged(document: Mapping[str, object], options: Mapping[str, object]) -> Settings:
    class MergedSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            first = InitSettingsSource(settings_cls, init_kwargs=dict(options))
            last = InitSettingsSource(settings_cls, init_kwargs=dict(document))
            return first, env_settings, last

    return MergedSettings()


def _engines(settings: Settings, environ: Mapping[str, str]) -> tuple[EngineSettings, ...]:
    # Kamal tells each container, accessories too, by which name it reaches this host.
    host = environ.get("KAMAL_HOST", "")
    engines = settings.engines
    if not engines:
        url = environ.get("DOCKER_HOST") or DEFAULT_ENGINE_URL
        try:
            engines = (EngineSettings(url=url),)
        except ValidationError as error:
            raise SettingsError("environment", [_problem_of_docker_host(error)]) from None
    if len(engines) == 1:
        (engine,) = engines
        named = {"host": engine.host or host, "address": engine.address or host}
        engines = (engine.model_copy(update=named),)
    return engines


def _problem_of_docker_host(error: ValidationError) -> Problem:
    return Problem(None, "DOCKER_HOST", _words(error.errors()[0]["msg"]))


def _conflicts(settings: Settings) -> Iterator[tuple[_Place, str]]:
    """What is wrong between entries that are each right."""
    hosts: set[str] = set()
    for index, engine in enumerate(settings.engines):
        if len(settings.engines) > 1 and not engine.host:
            yield ("engines", index), "needs a host: with several engines each has its own name"
        elif engine.host in hosts:
            yield ("engines", index, "host"), f"{engine.host!r} is another engine's; make it unique"
        hosts.add(engine.host)
    instances: set[str] = set()
    for index, role in enumerate(settings.roles):
        if role.instance in instances and "{" not in role.instance:
            yield (
                ("roles", index, "instance"),
                f"{role.instance!r} is another role's; make it unique, or use {{slot}}",
            )
        instances.add(role.instance or "")


def _strangers(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables with our prefix that set nothing: pydantic-settings passes them over in silence."""
    for name in environ:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in _OTHER_VARIABLES:
            field = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")[0]
            if field not in Settings.model_fields:
                yield name, f"sets nothing{_hint(field, Settings.model_fields, ENVIRONMENT_PREFIX)}"


def _read(path: Path) -> tuple[Mapping[str, object], Mapping[_Place, int]]:
    """The document, and the line of every place in it."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        document = yaml.safe_load(text)
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise SettingsError(str(path), [Problem(None, "", message)]) from None
    except UnicodeDecodeError:
        raise SettingsError(str(path), [Problem(None, "", "is not UTF-8 text")]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        message = f"is not YAML: {getattr(error, 'problem', None) or error}"
        raise SettingsError(str(path), [Problem(line, "", message)]) from None
    if document is None:
        return {}, {}
    if not isinstance(document, dict):
        message = "must hold keys and values, like listen: 0.0.0.0:9889"
        raise SettingsError(str(path), [Problem(1, "", message)])
    lines: dict[_Place, int] = {}
    twice = list(_walk(node, (), lines))
    if twice:
        raise SettingsError(str(path), twice)
    return document, lines


def _walk(node: yaml.Node | None, place: _Place, lines: dict[_Place, int]) -> Iterator[Problem]:
    """Fills in the lines below a node; yields the keys given twice, which YAML readers let pass."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*place, str(key.value))
            if below in lines:
                message = f"stands on line {lines[below]} already; keep one"
                yield Problem(key.start_mark.line + 1, _dotted(below), message)
            lines[below] = key.start_mark.line + 1
            yield from _walk(value, below, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*place, index] = item.start_mark.line + 1
            yield from _walk(item, (*place, index), lines)


def _problems(error: ValidationError, lines: Mapping[_Place, int]) -> list[Problem]:
    problems = []
    for detail in error.errors():
        place = tuple(part for part in detail["loc"] if part != "[key]")
        message = _words(detail["msg"])
        if detail["type"] == "extra_forbidden":
            message = f"is no setting{_hint(str(place[-1]), _fields_at(place[:-1]))}"
        problems.append(Problem(_line(lines, place), _dotted(place), message))
    return sorted(problems, key=lambda problem: problem.line or 0)


def _words(message: str) -> str:
    return message.removeprefix("Value error, ")


def _line(lines: Mapping[_Place, int], place: _Place) -> int | None:
    """The line of the place, or of the nearest one above it that the file has."""
    while place:
        if place in lines:
            return lines[place]
        place = place[:-1]
    return None


def _dotted(place: _Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _fields_at(place: _Place) -> Mapping[str, object]:
    sections: Mapping[str, type[BaseModel]] = {
        "engines": EngineSettings,
        "defaults": EndpointSettings,
        "roles": RoleSettings,
        "proxy": ProxySettings,
    }
    return (sections[str(place[0])] if place else Settings).model_fields


def _hint(name: str, known: Mapping[str, object], prefix: str = "") -> str:
    close = get_close_matches(name, known, n=1)
    if not close:
        return f"; known are {', '.join(known)}"
    return f"; did you mean {prefix + close[0].upper() if prefix else close[0]}?"
