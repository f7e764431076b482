"""`kamal-sd lint` and `kamal-sd init`: what a deploy.yml says, before it is deployed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import typer

from app.cli.options import EXIT_FOUND, EXIT_NO_ANSWER
from app.deployfile import erb, init
from app.deployfile.document import Node, UnreadableError, merged, read, unknown_keys
from app.deployfile.lint import Finding, Held, findings
from app.deployfile.roles import App, app_of
from app.discovery.aliases import inspects
from app.discovery.labels import readable
from app.engine.client import EngineError
from app.engine.look import look
from app.model import Container, Snapshot
from app.server import connect
from app.settings_file import SettingsError, load

_KAMAL_SECONDS = 60.0

File = Annotated[
    Path, typer.Argument(help="Kamal's file; for lint also its output, or - for stdin.")
]
Destination = Annotated[
    str, typer.Option("--destination", "-d", help="Merge deploy.DESTINATION.yml into it.")
]


class _MistakeError(Exception):
    """The file cannot be read at all; the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.why)
        self.finding = finding


class _Read(NamedTuple):
    """A document, and what could not be read of it."""

    root: Node
    notes: tuple[str, ...]


def register(cli: typer.Typer) -> None:
    """Adds the commands of this module."""
    cli.command(epilog="Example: kamal-sd lint config/deploy.yml -d staging")(lint)
    cli.command(name="init", epilog="Example: kamal-sd init --write .")(init_)


def lint(
    file: File = Path("config/deploy.yml"),
    destination: Destination = "",
    engine: Annotated[
        str, typer.Option(help="Ask this engine, too, who answers to the aliases.")
    ] = "",
    kamal: Annotated[
        bool, typer.Option("--kamal", help="Read what the installed `kamal config` prints.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Find in a deploy.yml, before a deploy, what leads to trouble.

    Exits with 1 where it finds something.
    """
    try:
        apps, notes = _apps(file, destination, kamal)
        found = findings(apps, held(_look(engine), apps[0]) if engine else ())
    except _MistakeError as mistake:
        found, notes = [mistake.finding], []
    if as_json:
        typer.echo(json.dumps({"findings": [each._asdict() for each in found], "notes": notes}))
    else:
        for finding in found:
            typer.echo("\n".join(_lines(finding)))
        for note in notes:
            typer.echo(_printable(f"note: {note}"), err=True)
        if not found:
            typer.echo(f"{file}: nothing found")
    if found:
        raise typer.Exit(EXIT_FOUND)


def init_(
    file: File = Path("config/deploy.yml"),
    destination: Destination = "",
    socket_proxy: Annotated[
        bool, typer.Option("--socket-proxy", help="Put HAProxy between kamal-sd and the engine.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the files into this folder; none is overwritten.")
    ] = None,
) -> None:
    """Print what to add to a deploy.yml: labels, accessory, Prometheus job and hook.

    With --write, exits with 1 where a file was there already.
    """
    try:
        (app, *_), _ = _apps(file, destination, kamal=False)
    except _MistakeError as mistake:
        _fail("\n".join(_lines(mistake.finding)), EXIT_FOUND)
    blocks = [
        (f"1. Labels: below their roles in {file}", "kamal-sd.labels.yml", init.labels(app)),
        (
            f"2. The accessory: below accessories: in {file}",
            "kamal-sd.accessory.yml",
            _accessory(app, socket_proxy),
        ),
        ("3. The job: in prometheus.yml", "prometheus.yml", init.job(app)),
        (
            "4. The hook: as .kamal/hooks/post-deploy, executable",
            ".kamal/hooks/post-deploy",
            _template("post-deploy"),
        ),
    ]
    if socket_proxy:
        name = "config/kamal-sd/haproxy.cfg"
        blocks.append(
            (f"5. The socket proxy's settings: as {name}", name, _template("haproxy.cfg"))
        )
    if write is None:
        for title, _, text in blocks:
            typer.echo(f"# --- {title} ---\n{text or '# Nothing to add.'}")
        return
    left = [name for _, name, text in blocks if text and not _written(write / name, text)]
    if left:
        raise typer.Exit(EXIT_FOUND)


def _accessory(app: App, socket_proxy: bool) -> str:
    several = _template("one-a-host.yml")
    if socket_proxy:
        return init.proxied(app, _template("socket-proxy.yml"), several)
    return init.accessory(app, _template("direct-socket.yml"), several)


def names_of(container: Container) -> Iterator[tuple[str, str]]:
    """The (network, name) pairs at which a container is reached."""
    for network in container.networks:
        for name in {container.name, *(network.aliases or ())}:
            yield network.name, name


def held(snapshot: Snapshot, app: App) -> list[Held]:
    """Who on an engine answers to what, apart from the containers of the app itself."""
    found = []
    own = {(app.service, role.name, app.destination) for role in app.roles}
    accessories = {each.service for each in app.accessories}
    for container in snapshot.containers.values():
        labels = container.labels
        service = labels.get("service", "")
        slot = (service, labels.get("role", ""), labels.get("destination", ""))
        if container.running and slot not in own and container.name not in accessories:
            holder = f"container {container.name}" + (f" (service {service})" if service else "")
            found += [Held(network, name, holder) for network, name in names_of(container)]
    return found


def _look(url: str) -> Snapshot:
    try:
        settings = load(options={"engines": [{"url": url}], "aliases": {"verify": True}})
        engine = settings.engines[0]
        return look(engine.host, connect(engine), readable(settings), inspects(settings))
    except SettingsError as error:
        raise typer.BadParameter(str(error), param_hint="--engine") from None
    except EngineError as error:
        _fail(str(error), EXIT_NO_ANSWER)


def _apps(file: Path, destination: str, kamal: bool) -> tuple[list[App], list[str]]:
    """The app asked for, and its siblings of other destinations; and notes on what is unread."""
    if kamal:
        base = _parsed("kamal config", _of_kamal(file, destination))
    else:
        base = _parsed(str(file), sys.stdin.read() if str(file) == "-" else _text(file))
    app = app_of(base.root, destination)
    notes = list(base.notes)
    if app.printed:
        notes.append(
            "`kamal config` prints no labels and options of roles: only accessories are checked"
        )
        return [app], notes
    others = sorted(file.parent.glob(f"{file.stem}.*{file.suffix}")) if str(file) != "-" else []
    siblings = {each.stem.removeprefix(f"{file.stem}."): each for each in others}
    if destination:
        over = siblings.pop(destination, file.with_name(f"{file.stem}.{destination}{file.suffix}"))
        read_over = _parsed(str(over), _text(over))
        notes += read_over.notes
        apps = [app_of(merged(base.root, read_over.root), destination), app]
    else:
        apps = [app]
    for name, other in siblings.items():
        apps.append(app_of(merged(base.root, _parsed(str(other), _text(other)).root), name))
    return apps, notes


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _mistake(str(file), 1, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _mistake(str(file), 1, "is not UTF-8 text") from None


def _parsed(name: str, text: str) -> _Read:
    without = erb.plain(text)
    try:
        root = read(name, without.text)
    except UnreadableError as error:
        raise _mistake(name, error.line, str(error)) from None
    notes = []
    if unknown := unknown_keys(root):
        keys = ", ".join(dict.fromkeys(key or "a key" for _, key in unknown))
        notes.append(
            f"{name}: only Ruby knows {keys}; nothing is said of them. `kamal config | kamal-sd "
            "lint -` (or --kamal) reads those of accessories"
        )
    if without.steered:
        lines = ", ".join(map(str, without.steered))
        notes.append(f"{name}: the Ruby on line {lines} was not run; what it encloses is read once")
    return _Read(root, tuple(notes))


def _of_kamal(file: Path, destination: str) -> str:
    # Given a version, Kamal needs no git repository.
    command = ["kamal", "config", "-c", str(file), "--version", "lint"]
    command += ["-d", destination] if destination else []
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=_KAMAL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _fail(f"kamal does not answer: {error}", EXIT_NO_ANSWER)
    if ran.returncode:
        _fail(f"kamal config failed: {(ran.stderr or ran.stdout).strip()}", EXIT_NO_ANSWER)
    return ran.stdout


def _mistake(file: str, line: int, why: str) -> _MistakeError:
    return _MistakeError(Finding(file, line, "error", "unreadable", why))


def _lines(finding: Finding) -> Iterator[str]:
    where = f"{finding.file}:{finding.line}"
    yield _printable(f"{where}: {finding.severity} {finding.rule}: {finding.why}")
    for line in finding.instead:
        yield _printable(f"    {line}")


def _printable(text: str) -> str:
    # A file may hold what moves a terminal's cursor.
    return "".join(char if char.isprintable() else "�" for char in text)


def _template(name: str) -> str:
    return (files("app.deployfile") / "templates" / name).read_text(encoding="utf-8")


def _written(file: Path, text: str) -> bool:
    """Whether it was written; an existing file is named and left."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        typer.echo(f"{file} is there already, and was left", err=True)
        return False
    except OSError as error:
        _fail(f"{file} cannot be written: {error.strerror}", EXIT_FOUND)
    if text.startswith("#!"):
        file.chmod(0o755)
    typer.echo(f"{file} written")
    return True


def _fail(words: str, code: int) -> NoReturn:
    typer.echo(words, err=True)
    raise typer.Exit(code)
