"""A real engine behind TLS: what is wrong is said, costs no target, and is mended while it runs."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from app.engine.client import DockerConnection, EngineError, StreamSilentError
from app.engine.session import Pace
from app.engine.tls import TlsFiles
from app.server import connect, watching
from app.settings import EngineSettings, Settings
from app.state import State
from tests.engine.handmade import VERSION, HandMade, hold
from tests.engine.town import Town, body, settings, wait_for, wait_for_addresses
from tests.lab.certificates import Authority
from tests.lab.engine import Engine
from tests.lab.process import run
from tests.lab.world import World

pytestmark = pytest.mark.real

LOCKED: Final = ("-aes128", "-passout", "pass:secret")
QUICK: Final = Pace(first_delay=0.05, longest_delay=0.2, confirm=0.5)


@pytest.fixture(scope="module")
def authority(world: World) -> Authority:
    return Authority(world.folder("authority"))


@pytest.fixture(scope="module")
def stranger(world: World) -> Authority:
    """A CA of which the engine knows nothing, nor has it signed the engine's certificate."""
    return Authority(world.folder("stranger"))


@pytest.fixture(scope="module")
def secured(world: World, authority: Authority) -> Iterator[Engine]:
    authority.sign("server")
    with Engine(world.folder("secured"), tls=authority, live_restore=True) as engine:
        yield engine


class Files(NamedTuple):
    """The files of a test, which it can spoil and mend."""

    ca: Path
    cert: Path
    key: Path

    def write(self, ca: Authority, signer: Authority, days: int = 1) -> None:
        pair = signer.sign("client", subject="DNS:kamal-sd", days=days)
        for mine, theirs in zip(self, (ca.file, *pair), strict=True):
            shutil.copy(theirs, mine)


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> Files:
    """Files that are all right."""
    files = Files(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    files.write(authority, authority)
    return files


def url(engine: Engine) -> str:
    assert engine.tcp_url
    return engine.tcp_url


def secure(engine: Engine, files: Files, directory: Path, **given: Any) -> Settings:
    described = {"url": url(engine), "host": "one", "timeout": 2, "tls": files._asdict()}
    return settings("", directory / "data", engines=[described], **given)


def wait_for_error(state: State, words: str) -> None:
    wait_for(lambda: words in state.view.snapshots[0].error, words)
    assert not state.view.snapshots[0].up


def error_of(url: str, tls: Mapping[str, Path] | None = None) -> str:
    described = {"url": url, "timeout": 1} | ({} if tls is None else {"tls": tls})
    with pytest.raises(EngineError) as caught:
        connect(EngineSettings.model_validate(described))
    return str(caught.value)


def test_an_engine_is_followed_by_its_events(secured: Engine, files: Files, tmp_path: Path) -> None:
    town = Town(secured)
    with watching(secure(secured, files, tmp_path, resync_interval="10m"), pace=QUICK) as state:
        wait_for(lambda: state.view.snapshots[0].up, "the engine to be heard")
        (web,) = town.run("web")
        wait_for_addresses(state, "web")
        secured.docker("rm", "--force", web)
        wait_for(lambda: body(state) == b"[]\n", "its removal")
        assert state.view.snapshots[0].reconnects == 0


# What is done to the files, given the engine's CA and another one, and what is said of it.
HARMS: Final[dict[str, tuple[Callable[[Files, Authority, Authority], object], str]]] = {
    "no CA": (lambda files, *_: files.ca.unlink(), "/ca.pem: No such file or directory"),
    "no key": (lambda files, *_: files.key.unlink(), "/key.pem: No such file or directory"),
    "an empty CA": (
        lambda files, *_: files.ca.write_bytes(b""),
        "no certificate in the file of tls.ca",
    ),
    "no PEM": (
        lambda files, *_: files.cert.write_text("x"),
        "tls.cert and tls.key are not both PEM files",
    ),
    "another key": (
        lambda files, ca, _: shutil.copy(ca.pair("server").key, files.key),
        "tls.key is not the key of tls.cert",
    ),
    # Nobody is asked for its password.
    "a locked key": (
        lambda files, *_: run(["openssl", "ec", *LOCKED, "-in", files.key, "-out", files.key]),
        "key is encrypted, password is required",
    ),
    "another CA": (
        lambda files, ca, other: files.write(other, ca),
        "is not trusted: unable to get local issuer certificate; set tls.ca",
    ),
    "an expired client": (
        lambda files, ca, _: files.write(ca, ca, days=-1),
        "it refuses the client certificate",
    ),
    "a stranger's client": (
        lambda files, ca, other: files.write(ca, other),
        "it refuses the client certificate",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_wrong_file_is_said_and_mended_while_it_runs(
    harm: str,
    secured: Engine,
    authority: Authority,
    stranger: Authority,
    files: Files,
    tmp_path: Path,
) -> None:
    spoil, words = HARMS[harm]
    spoil(files, authority, stranger)
    with watching(secure(secured, files, tmp_path), pace=QUICK) as state:
        wait_for_error(state, words)
        assert not state.view.ready
        files.write(authority, authority)
        wait_for(lambda: state.view.snapshots[0].up, "the engine to be heard")


@pytest.mark.parametrize(
    ("subject", "days", "words"),
    [
        ("IP:127.0.0.1", -1, "its certificate is not trusted: certificate has expired; renew it"),
        ("DNS:web-1.example", 1, "certificate is not valid for '127.0.0.1'; write the url with"),
    ],
)
def test_a_wrong_certificate_of_the_engine_costs_no_target(
    subject: str,
    days: int,
    words: str,
    secured: Engine,
    authority: Authority,
    files: Files,
    tmp_path: Path,
) -> None:
    Town(secured).run("web")
    try:
        with watching(secure(secured, files, tmp_path), pace=QUICK) as state:
            wait_for_addresses(state, "web")
            before = body(state)
            authority.sign("server", subject=subject, days=days)
            restart(secured)
            wait_for_error(state, words)
            assert body(state) == before
            authority.sign("server")
            restart(secured)
            wait_for(lambda: state.view.snapshots[0].up, "the engine to be heard")
            assert body(state) == before
    finally:
        secured.remove_containers()


def restart(engine: Engine) -> None:
    # dockerd reads its certificate once.
    engine.stop()
    engine.start()


def test_a_client_certificate_that_is_wanted_is_asked_for(secured: Engine, files: Files) -> None:
    assert "set tls.cert and tls.key to a pair" in error_of(url(secured), {"ca": files.ca})


def test_without_a_ca_it_is_the_systems_that_counts(
    secured: Engine,
    authority: Authority,
    stranger: Authority,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = {"cert": files.cert, "key": files.key}
    # requests would heed them.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert "is not trusted: unable to get local issuer" in error_of(url(secured), pair)
    # Where OpenSSL looks for the system's CAs.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    described = {"url": url(secured), "timeout": 2, "tls": pair}
    with closing(connect(EngineSettings.model_validate(described))) as connection:
        assert connection.containers() == []
    # They are not added to a CA that is set.
    assert "is not trusted" in error_of(url(secured), pair | {"ca": stranger.file})


def test_who_speaks_tls_and_who_does_not_is_told(
    world: World, secured: Engine, files: Files
) -> None:
    assert error_of(url(secured)) == "it speaks TLS there; set tls for the engine"
    with Engine(world.folder("plain"), tcp=True) as plain:
        assert "it speaks no TLS there" in error_of(url(plain), files._asdict())
    with HandMade({"/version": VERSION, "/": hold}) as silent:
        assert "handshake operation timed out" in error_of(silent.url, files._asdict())


def test_a_frozen_engine_is_noticed(secured: Engine, files: Files) -> None:
    secured.pause()
    try:
        began = time.monotonic()
        assert "timed out" in error_of(url(secured), files._asdict())
        assert time.monotonic() - began < 3
    finally:
        secured.resume()


def test_a_stream_that_is_silent_or_closed_ends(secured: Engine, files: Files) -> None:
    place, tls = url(secured), TlsFiles(*files)
    with (
        closing(DockerConnection(place, timeout=2, silence=0.3, tls_files=tls)) as connection,
        pytest.raises(StreamSilentError),
    ):
        list(connection.events())
    with closing(DockerConnection(place, timeout=2, silence=20, tls_files=tls)) as connection:
        stream = connection.events()
        closer = threading.Timer(0.3, stream.close)
        closer.start()
        began = time.monotonic()
        assert list(stream) == []
        assert time.monotonic() - began < 5
        closer.join()
