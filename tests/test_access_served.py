"""TLS, users and tokens on a real server, and every change of them while it serves."""

import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bcrypt
import httpx
import pytest

from tests.builders import container
from tests.cli import places
from tests.engine.handmade import VERSION, Answer, HandMade, answer, then_hold
from tests.lab.certificates import Authority
from tests.lab.process import free_port, run, system_environment, wait_until
from tests.lab.sd import REPOSITORY, Server
from tests.test_peers import engine, is_ready
from tests.web.sockets import FIRST, App
from tests.web_files import TOKENS, basic, bearer, hashed, web_file, write_tokens

USERS = """
basic_auth_users: {{anna: {anna}, prometheus: {prometheus}}}
kamal_sd:
  tokens:
    - {{file: prometheus.token, rights: [targets, scrape]}}
    - {{file: admin.token, rights: [targets, scrape, read, reload]}}
  users: {{prometheus: [targets, scrape]}}
"""
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
MUTUAL = """
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
"""
PATIENCE = 15.0


def users(anna: str = "anna knows") -> str:
    return USERS.format(anna=hashed(anna), prometheus=hashed("prometheus knows"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """In the folder of the web config file, with the server's pair."""
    authority = Authority(tmp_path)
    authority.sign("server")
    write_tokens(tmp_path)
    return authority


@contextmanager
def hand_made(folder: Path, *apps: App) -> Iterator[HandMade]:
    """An engine at a socket, with a container for each app, which are so relayed."""
    entries = [
        places.entry(container(f"shop{number}-web-v1", ip=app.ip, labels={
            "service": f"shop{number}", "role": "web", "prometheus.port": "9394"}))
        for number, app in enumerate(apps)
    ]  # fmt: skip
    answers: dict[str, Answer] = {
        "/version": VERSION,
        "/containers/json": answer(entries),
        "/events": then_hold(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    }
    with HandMade(answers, unix=folder / "docker.sock") as place:
        yield place


def serving(folder: Path, text: str, **given: Any) -> Server:
    web = web_file(folder, text)
    settings = {"KAMAL_SD_WEB_CONFIG": str(web), **given.pop("env", {})}
    return Server(folder / "sd", f"unix://{folder}/docker.sock", env=settings, **given)


def trusting(authority: Authority, *, cert: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if cert:
        pair = authority.pair(cert)
        context.load_cert_chain(pair.cert, pair.key)
    return context


def status(server: Server, path: str, headers: Mapping[str, str] | None = None) -> int:
    return server.get(path, headers).status_code


def soon(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, PATIENCE, what)


def subject(server: Server, authority: Authority) -> str:
    """The serial number of the certificate that a new connection is shown."""
    host = httpx.URL(server.url)
    pem = ssl.get_server_certificate((host.host, host.port or 0), ca_certs=str(authority.file))
    return run(["openssl", "x509", "-noout", "-serial"], data=pem.encode()).strip()


def said(server: Server) -> str:
    return server.log.read_text()


# --- changes while it serves ---


def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, authority: Authority
) -> None:
    with (
        hand_made(tmp_path),
        serving(tmp_path, TLS, tls=trusting(authority)) as server,
        httpx.Client(base_url=server.url, verify=trusting(authority), trust_env=False) as kept,
    ):
        assert kept.get("/targets").status_code == 200
        before = subject(server, authority)
        authority.sign("server")
        soon(lambda: subject(server, authority) != before, "the new certificate")
        # A connection that was there stays.
        assert kept.get("/targets").status_code == 200
        assert "read anew" in said(server)


def test_half_of_a_new_pair_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    with hand_made(tmp_path), serving(tmp_path, TLS, tls=trusting(authority)) as server:
        before = subject(server, authority)
        pair, new = authority.pair("server"), authority.sign("new")
        new.cert.rename(pair.cert)
        soon(lambda: "is not the key of" in said(server), "the mistake to be told")
        assert subject(server, authority) == before
        new.key.rename(pair.key)
        soon(lambda: subject(server, authority) != before, "the new pair")


def test_a_ca_that_is_taken_away_is_trusted_no_more(tmp_path: Path, authority: Authority) -> None:
    authority.sign("client")
    other = Authority(tmp_path / "other")
    tls = trusting(authority, cert="client")
    with hand_made(tmp_path), serving(tmp_path, MUTUAL, tls=tls) as server:

        def gets_in() -> bool:
            try:
                return httpx.get(f"{server.url}/targets", verify=tls, trust_env=False).is_success
            except httpx.TransportError:
                return False

        assert gets_in()
        web_file(tmp_path, MUTUAL.replace("ca.pem", "other/ca.pem"))
        soon(lambda: not gets_in(), "the old CA to be gone")
        other.sign("client")
        tls = ssl.create_default_context(cafile=authority.file)
        tls.load_cert_chain(*other.pair("client"))
        assert gets_in()
        # Not even at a version of the file that cannot be used.
        (tmp_path / "other/ca.pem").unlink()
        soon(lambda: "other/ca.pem cannot be read" in said(server), "the mistake to be told")
        assert gets_in()


@pytest.mark.usefixtures("authority")
def test_a_changed_password_and_token_count_without_a_restart(tmp_path: Path) -> None:
    with hand_made(tmp_path), serving(tmp_path, users()) as server:
        old, new = basic("anna", "anna knows"), basic("anna", "something else")
        assert [status(server, "/explain", each) for each in (old, new)] == [200, 401]
        web_file(tmp_path, users("something else"))
        soon(lambda: status(server, "/explain", new) == 200, "the new password")
        assert status(server, "/explain", old) == 401
        assert status(server, "/explain", bearer(TOKENS["admin"])) == 200
        write_tokens(tmp_path, {"admin": "another-token-1234"})
        soon(lambda: status(server, "/explain", bearer("another-token-1234")) == 200, "the token")
        assert status(server, "/explain", bearer(TOKENS["admin"])) == 401


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("basic_auth_users: {anna: plain}", "line 1: basic_auth_users.anna: is no bcrypt hash"),
        ("basic_auth_users: [", "is not YAML"),
        (TLS, "TLS is turned on by a restart alone"),
    ],
)
def test_a_bad_file_is_refused_and_the_old_one_stays(tmp_path: Path, bad: str, words: str) -> None:
    with hand_made(tmp_path), serving(tmp_path, users()) as server:
        web_file(tmp_path, bad)
        soon(lambda: words in said(server), "the mistake to be told")
        assert "; what held before stays" in said(server)
        assert status(server, "/explain") == 401
        assert status(server, "/explain", basic("anna", "anna knows")) == 200
        # It is looked at again and again, and told of once.
        time.sleep(2.5)
        assert said(server).count(words) == 1
        web_file(tmp_path, users("something else"))
        soon(lambda: status(server, "/explain", basic("anna", "something else")) == 200, "a mend")


@pytest.mark.usefixtures("authority")
def test_a_file_that_vanishes_opens_nothing(tmp_path: Path) -> None:
    with hand_made(tmp_path), serving(tmp_path, users()) as server:
        (tmp_path / "web.yml").unlink()
        soon(lambda: "web.yml: cannot be read" in said(server), "it to be told")
        assert status(server, "/explain") == 401
        assert status(server, "/explain", bearer(TOKENS["admin"])) == 200


# --- at the start ---


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_bad_file_is_no_start(tmp_path: Path, command: str) -> None:
    web = web_file(tmp_path, "basic_auth_users:\n  anna: plain\n")
    config = tmp_path / "config.yml"
    config.write_text(f"web_config: {web}\nlisten: 127.0.0.1:1\n")
    done = kamal_sd(tmp_path, command, *(["--config"] if command == "serve" else []), str(config))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{web}: line 2: basic_auth_users.anna: is no bcrypt hash")
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(
    ("text", "listen", "warns"),
    [
        ("", "0.0.0.0", True),
        ("kamal_sd: {hosts: [localhost]}", "0.0.0.0", True),
        ("", "127.0.0.1", False),
        ("", "localhost", False),
        ("basic", "0.0.0.0", False),
    ],
)
def test_whoever_is_open_to_others_is_told_once(
    tmp_path: Path, text: str, listen: str, warns: bool
) -> None:
    text = users() if text == "basic" else text
    port = free_port()
    env = {"KAMAL_SD_LISTEN": f"{listen}:{port}"}
    with hand_made(tmp_path), serving(tmp_path, text, wait=False, env=env) as server:
        soon(lambda: is_ready(f"http://127.0.0.1:{port}"), "the server")
        assert said(server).count("there is no password") == int(warns)


# --- who gets in by TLS ---


def test_without_a_clients_certificate_nobody_gets_in(tmp_path: Path, authority: Authority) -> None:
    authority.sign("client")
    with (
        hand_made(tmp_path),
        serving(tmp_path, MUTUAL, tls=trusting(authority, cert="client")) as server,
    ):
        assert status(server, "/targets") == 200
        stranger = trusting(authority)
        stranger.load_cert_chain(*Authority(tmp_path / "other").sign("client"))
        for tls in (trusting(authority), stranger):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{server.url}/-/healthy", verify=tls, trust_env=False)
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url.replace("https", "http"), trust_env=False)


def test_one_of_the_allowed_names_has_to_be_in_it(tmp_path: Path, authority: Authority) -> None:
    names = {"one": "DNS:prometheus", "two": "IP:fd00::1", "three": "DNS:other", "four": "URI:a:b"}
    for name, subject_name in names.items():
        authority.sign(name, subject=subject_name)
    text = MUTUAL + '  client_allowed_sans: [prometheus, "fd00::1", "a:b"]\n'
    with (
        hand_made(tmp_path),
        serving(tmp_path, text, tls=trusting(authority, cert="one")) as server,
    ):

        def gets_in(name: str) -> bool:
            tls = trusting(authority, cert=name)
            try:
                answer = httpx.get(f"{server.url}/targets", verify=tls, trust_env=False)
            except httpx.TransportError:
                return False
            return answer.is_success

        assert [gets_in(name) for name in names] == [True, True, False, True]
        assert "Traceback" not in said(server)


def test_an_old_version_of_tls_is_refused(tmp_path: Path, authority: Authority) -> None:
    text = TLS.replace("}", ", min_version: TLS13}")
    with hand_made(tmp_path), serving(tmp_path, text, tls=trusting(authority)) as server:
        tls = trusting(authority)
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/targets", verify=tls, trust_env=False)


def test_relayed_targets_are_scraped_as_it_is_reached(tmp_path: Path, authority: Authority) -> None:
    with (
        App(FIRST) as app,
        hand_made(tmp_path, app),
        serving(tmp_path, TLS + users(), tls=trusting(authority)) as server,
    ):
        answer = server.get("/targets", bearer(TOKENS["prometheus"])).json()
        [labels] = [group["labels"] for group in answer]
        assert (labels["__scheme__"], labels["__meta_kamal_address"]) == ("https", "relay")
        path = labels["__metrics_path__"]
        assert server.get(path, bearer(TOKENS["prometheus"])).text == "version 1\n"
        assert status(server, path) == 401
        # What it was shown is for itself alone.
        assert not [each for each in app.asked if "authorization" in each.headers]


# --- the commands, and other kamal-sd's ---


def kamal_sd(folder: Path, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    environment = system_environment(HOME=str(folder), PYTHONPATH=str(REPOSITORY), **env)
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "TLS", "MUTUAL"])
def test_its_health_is_asked_whatever_is_wanted(
    tmp_path: Path, authority: Authority, text: str
) -> None:
    authority.sign("client")
    tls = trusting(authority, cert="client") if text else None
    whole = {"": "", "TLS": TLS, "MUTUAL": MUTUAL}[text] + users()
    with hand_made(tmp_path), serving(tmp_path, whole, tls=tls) as server:
        env = {
            "KAMAL_SD_LISTEN": server.url.rpartition("/")[2],
            "KAMAL_SD_WEB_CONFIG": str(tmp_path / "web.yml"),
        }
        healthy = kamal_sd(tmp_path, "healthcheck", **env)
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert "Invalid HTTP" not in said(server)
        # Whatever stands in the file since: the server has the one before.
        web_file(tmp_path, "nonsense")
        healthy = kamal_sd(tmp_path, "healthcheck", **env)
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert healthy.stdout.startswith("kamal-sd is healthy")
    gone = kamal_sd(tmp_path, "healthcheck", **env)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "refused" in gone.stderr


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(("text", "code"), [(TLS, 1), (MUTUAL, 0), (users(), 1)])
def test_to_hang_up_is_health_where_certificates_are_wanted_alone(
    tmp_path: Path, text: str, code: int
) -> None:
    web = web_file(tmp_path, text)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        env = {"KAMAL_SD_LISTEN": f"127.0.0.1:{port}", "KAMAL_SD_WEB_CONFIG": str(web)}

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)

        with ThreadPoolExecutor(1) as hanging_up:
            done = hanging_up.submit(hang_up)
            assert kamal_sd(tmp_path, "healthcheck", **env).returncode == code
            done.result()


def test_the_commands_show_who_asks(tmp_path: Path, authority: Authority) -> None:
    with (
        App(FIRST) as app,
        hand_made(tmp_path, app),
        serving(tmp_path, TLS + users(), tls=trusting(authority)) as server,
    ):
        trust = {"SSL_CERT_FILE": str(authority.file)}
        place = server.url.removeprefix("https://")
        url = f"https://anna:anna%20knows@{place}"
        token = {"KAMAL_SD_TOKEN_FILE": str(tmp_path / "admin.token")}
        for words in (("explain",), ("targets", "--json"), ("status",)):
            assert "shop0" in kamal_sd(tmp_path, *words, "--url", url, **trust).stdout
            asked = kamal_sd(tmp_path, *words, "--url", server.url, **trust, **token)
            assert "shop0" in asked.stdout
        waited = kamal_sd(
            tmp_path, "wait", "--service=shop0", "--version=v1", "--url", url, **trust
        )
        assert waited.returncode == 0
        nobody = kamal_sd(tmp_path, "explain", "--url", server.url, **trust)
        assert nobody.returncode == 3
        assert "answered 401: this needs a user or a token; write https://" in nobody.stderr
        wrong = kamal_sd(tmp_path, "explain", "--url", url.replace("20knows", "x"), **trust)
        assert "401" in wrong.stderr
        assert "anna" not in wrong.stderr
        missing = {"KAMAL_SD_TOKEN_FILE": str(tmp_path / "none")}
        unread = kamal_sd(tmp_path, "explain", "--url", server.url, **trust, **missing)
        assert (unread.returncode, unread.stderr.count("\n")) == (3, 1)
        assert "KAMAL_SD_TOKEN_FILE: " in unread.stderr


@pytest.mark.parametrize("way", ["token", "user"])
def test_a_peer_is_shown_who_asks_and_so_is_its_relay(
    tmp_path: Path, authority: Authority, way: str
) -> None:
    (tmp_path / "password").write_text("anna knows\n")
    shown: dict[str, str] = (
        {"token_file": str(tmp_path / "admin.token")}
        if way == "token"
        else {"username": "anna", "password_file": str(tmp_path / "password")}
    )
    with (
        App(FIRST) as app,
        hand_made(tmp_path, app),
        serving(
            tmp_path,
            TLS + users(),
            tls=trusting(authority),
            env={"KAMAL_HOST": "web-1"},
        ) as peer,
    ):
        config = tmp_path / "config.yml"
        lines = "".join(f"    {key}: {value}\n" for key, value in shown.items())
        config.write_text(
            f"engines: []\npeers:\n  - url: {peer.url}\n    ca: {authority.file}\n"
            f"    relay: true\n    interval: 100ms\n{lines}"
        )
        with Server(tmp_path / "all", config=config) as server:
            soon(lambda: engine(server, "web-1")["up"], "the peer")
            [group] = server.targets()
            labels: Any = group["labels"]
            assert labels["__scheme__"] == "http"
            assert server.get(labels["__metrics_path__"]).text == "version 1\n"
            # Read anew each time: a secret may be changed, and be wrong for a while.
            for name in ("admin.token", "password"):
                (tmp_path / name).write_text("something-else-1234")
            web_file(tmp_path, TLS + users("something-else-1234"))
            soon(lambda: status(peer, "/explain", bearer("something-else-1234")) == 200, "it")
            soon(lambda: engine(server, "web-1")["up"], "the peer")
            # The peer may have read its tokens anew, and its users not yet.
            path = labels["__metrics_path__"]
            soon(lambda: server.get(path).text == "version 1\n", "its relay")
            (tmp_path / "admin.token").unlink()
            (tmp_path / "password").unlink()
            soon(lambda: "cannot be read: No such file" in engine(server, "web-1")["error"], "it")
            refused = server.get(labels["__metrics_path__"])
            assert refused.status_code == 502
            assert "cannot be read" in refused.text


# --- bcrypt ---


def test_it_ends_in_time_while_passwords_are_guessed(tmp_path: Path) -> None:
    # Each takes about a second, on a machine that has nothing else to do.
    slow = bcrypt.hashpw(b"anna knows", bcrypt.gensalt(14)).decode()
    with (
        hand_made(tmp_path),
        serving(tmp_path, f"basic_auth_users: {{anna: {slow}}}") as server,
        ExitStack() as guessing,
    ):

        def guess(number: int) -> HTTPConnection:
            web = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
            guessing.callback(web.close)
            web.request("GET", "/targets", headers=basic("anna", str(number)))
            return web

        guesses = [guess(number) for number in range(4)]
        # Health is asked after them, and answered meanwhile.
        assert status(server, "/-/healthy") == 200
        answered, _, _ = select.select([each.sock for each in guesses], [], [], 0)
        assert len(answered) < len(guesses)
        assert server.stop() == 0
        assert 429 in [each.getresponse().status for each in guesses]
        assert "Traceback" not in said(server)
