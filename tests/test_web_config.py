"""The web config file: what is read of it, and every mistake with its line and its mend."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from app import access, web_config
from app.access import Access
from app.settings_file import Problem, SettingsError
from app.web_config import (
    ALL_RIGHTS,
    Extension,
    HttpServerConfig,
    TlsServerConfig,
    TokenConfig,
    WebConfig,
)
from tests.lab.certificates import Authority
from tests.lab.process import run
from tests.web_files import TOKENS, hashed, web_file, write_tokens

EXAMPLE = Path(__file__).parent.parent / "deploy" / "web.yml"
HASH = hashed("x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a CA, a server's pair that it signed, and tokens."""
    folder = tmp_path_factory.mktemp("web")
    authority = Authority(folder)
    authority.sign("server")
    authority.sign("other")
    write_tokens(folder)
    return folder


def problem(folder: Path, text: str) -> Problem:
    """The only mistake in a file of this text."""
    path = web_file(folder, text)
    with pytest.raises(SettingsError) as caught:
        access.load(path)
    (found,) = caught.value.problems
    assert str(caught.value).startswith(f"{path}: ")
    return found


def test_without_anything_in_it_everybody_may_ask(folder: Path) -> None:
    for text in ("", "# nothing\n", "{}", "basic_auth_users: {}"):
        found = access.load(web_file(folder, text))
        assert found == Access()
        assert not found.asks_who


def test_a_file_of_any_other_exporter_is_taken_as_it_is(folder: Path) -> None:
    found = access.load(
        web_file(
            folder,
            f"""
            tls_server_config:
              cert_file: server.pem
              key_file: {folder}/server.key
              client_auth_type: RequireAndVerifyClientCert
              client_ca_file: ca.pem
              client_allowed_sans: [prometheus, 10.0.0.1]
              min_version: TLS13
              max_version: TLS13
              cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
              prefer_server_cipher_suites: true
            http_server_config:
              http2: true
              headers: {{X-Frame-Options: deny, X-XSS-Protection: ""}}
            basic_auth_users:
              anna: {HASH}
            """,
        )
    )
    assert found.users[b"anna"].rights == ALL_RIGHTS
    assert found.headers == ((b"x-frame-options", b"deny"),)
    assert found.allowed_sans == {"prometheus", "10.0.0.1"}
    assert found.requires_client_cert
    assert found.tls is not None
    assert found.tls.minimum_version.name == "TLSv1_3"


def test_what_is_ours_is_rights_and_hosts(folder: Path) -> None:
    found = access.load(
        web_file(
            folder,
            f"""
            basic_auth_users: {{anna: {HASH}, prometheus: {HASH}}}
            kamal_sd:
              tokens:
                - file: prometheus.token
                  rights: [targets, scrape]
                - {{file: "{folder}/admin.token", rights: [read]}}
              users: {{prometheus: [targets]}}
              hosts: [Kamal-SD:9889, localhost, "[::1]", 10.0.0.1]
            """,
        )
    )
    assert [each.rights for each in found.tokens] == [{"targets", "scrape"}, {"read"}]
    assert [each.digest for each in found.tokens] == [
        access.digest(token.encode()) for token in TOKENS.values()
    ]
    assert found.users[b"prometheus"].rights == {"targets"}
    assert found.users[b"anna"].rights == ALL_RIGHTS
    assert found.hosts == {"kamal-sd:9889", "localhost", "[::1]", "10.0.0.1"}


TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  "
NO_HASH = "is no bcrypt hash; make one with htpasswd"


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("basic_auth_user: {}", 1, "basic_auth_user", "did you mean basic_auth_users?"),
        (f"{TLS}cert_fil: x", 4, "tls_server_config.cert_fil", "did you mean cert_file?"),
        ("kamal_sd:\n  host: [a]", 2, "kamal_sd.host", "did you mean hosts?"),
        ("kamal_sd:\n  tokens:\n  - {file: admin.token, rights: [], x: 1}", 3,
         "kamal_sd.tokens[0].x", "is no setting"),
        ("- a", 1, "", "must hold keys and values, like basic_auth_users"),
        ("basic_auth_users:\n  anna: secret", 2, "basic_auth_users.anna", NO_HASH),
        (f"basic_auth_users:\n  anna: {HASH}x", 2, "basic_auth_users.anna", NO_HASH),
        (f"basic_auth_users:\n  anna: {HASH.replace('$04', '$17')}", 2,
         "basic_auth_users.anna", "has the cost 17; it may be 04 to 16"),
        (f"basic_auth_users:\n  anna: {HASH.replace('$04', '$03')}", 2,
         "basic_auth_users.anna", "has the cost 03"),
        (f"basic_auth_users:\n  'a:b': {HASH}", 2, "basic_auth_users.a:b", "has no colon"),
        (f"basic_auth_users:\n  anna: {HASH}\n  anna: {HASH}", 3, "basic_auth_users.anna",
         "stands on line 2 already"),
        ("kamal_sd:\n  users:\n    anna: [read]", 3, "kamal_sd.users.anna", "is none of basic_"),
        ("kamal_sd:\n  tokens:\n  - file: admin.token\n    rights: [write]", 4,
         "kamal_sd.tokens[0].rights[0]", "Input should be 'targets', 'read', 'scrape' or 'reload'"),
        ("kamal_sd:\n  tokens:\n  - file: admin.token", 3, "kamal_sd.tokens[0].rights", "required"),
        ("kamal_sd:\n  tokens:\n  - {file: none.token, rights: []}", 3,
         "kamal_sd.tokens[0].file", "none.token cannot be read: No such file"),
        ("kamal_sd:\n  tokens:\n  - {file: ca.key, rights: []}", 3,
         "kamal_sd.tokens[0].file", "ca.key has no token of at least 16 characters alone"),
        ("kamal_sd:\n  hosts:\n  - a b", 3, "kamal_sd.hosts[0]", "is no host name"),
        ("kamal_sd:\n  hosts:\n  - a:99999", 3, "kamal_sd.hosts[0]", "has no port"),
        ("kamal_sd:\n  hosts:\n  - http://a", 3, "kamal_sd.hosts[0]", "is no host name"),
        ("tls_server_config:", 1, "tls_server_config", "is empty; it needs cert_file"),
        ("tls_server_config: {cert_file: server.pem}", 1, "tls_server_config.key_file", "required"),
        (f"{TLS}cert: |\n    PEM", 4, "tls_server_config.cert", "name a PEM file in cert_file"),
        (f"{TLS}curve_preferences: [X25519]", 4, "tls_server_config.curve_preferences", "is not"),
        ("rate_limit:\n  burst: 1", 1, "rate_limit", "is not offered by kamal-sd; take it away"),
        (f"{TLS}min_version: TLS10", 4, "tls_server_config.min_version", "TLS10 is broken"),
        (f"{TLS}min_version: TLS13\n  max_version: TLS12", 1, "tls_server_config", "min_version"),
        (f"{TLS}client_auth_type: RequestClientCert", 4, "tls_server_config.client_auth_type",
         "takes a certificate of anybody"),
        (f"{TLS}client_auth_type: RequireAndVerifyClientCert", 1, "tls_server_config",
         "it needs client_ca_file, too"),
        (f"{TLS}client_ca_file: ca.pem", 1, "tls_server_config", "write client_auth_type"),
        (f"{TLS}client_allowed_sans: [a]", 1, "tls_server_config", "write client_auth_type"),
        (f"{TLS}cipher_suites:\n  - RC4", 5, "tls_server_config.cipher_suites[0]", "'RC4' is no"),
        ("tls_server_config:\n  cert_file: server.pem\n  key_file: other.key", 3,
         "tls_server_config.key_file", "other.key is not the key of"),
        ("tls_server_config:\n  cert_file: none.pem\n  key_file: other.key", 2,
         "tls_server_config.cert_file", "none.pem cannot be read: No such file"),
        ("tls_server_config:\n  cert_file: admin.token\n  key_file: server.key", 2,
         "tls_server_config.cert_file", "are not a certificate and its key"),
        (f"{TLS}client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: admin.token", 5,
         "tls_server_config.client_ca_file", "has no certificate as PEM"),
        ("http_server_config:\n  headers:\n    Server: x", 3, "http_server_config.headers.Server",
         "Input should be"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: \"a\\nb\"", 3,
         "http_server_config.headers.X-Frame-Options", "cannot be printed"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_its_key_and_its_mend(
    folder: Path, text: str, line: int, key: str, words: str
) -> None:
    found = problem(folder, text)
    assert (found.line, found.key) == (line, key)
    assert words in found.message


def test_no_secret_is_told(folder: Path) -> None:
    (folder / "short.token").write_text("hunter2")
    text = "kamal_sd: {tokens: [{file: short.token, rights: []}]}"
    assert "hunter2" not in str(problem(folder, text))
    assert "hunter2" not in str(problem(folder, "basic_auth_users: {anna: hunter2}"))


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(folder: Path) -> None:
    locked = folder / "locked.key"
    key = folder / "server.key"
    run(["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked])
    found = problem(folder, "tls_server_config: {cert_file: server.pem, key_file: locked.key}")
    assert "not encrypted" in found.message


# --- deploy/web.yml ---


def test_the_example_shows_every_key_and_nothing_else() -> None:
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    offered: dict[type[BaseModel], tuple[dict[str, object], set[str]]] = {
        WebConfig: (document, {"rate_limit"}),
        TlsServerConfig: (
            document["tls_server_config"],
            {"cert", "key", "client_ca", "curve_preferences"},
        ),
        HttpServerConfig: (document["http_server_config"], set()),
        Extension: (document["kamal_sd"], set()),
        TokenConfig: (document["kamal_sd"]["tokens"][0], set()),
    }
    for kind, (shown, left_out) in offered.items():
        assert shown.keys() == kind.model_fields.keys() - left_out


def test_the_example_has_no_mistake_but_that_its_files_are_elsewhere() -> None:
    WebConfig.model_validate(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))
    with pytest.raises(SettingsError) as caught:
        web_config.load(EXAMPLE)
    assert all("cannot be read" in each.message for each in caught.value.problems)
    assert max(map(len, EXAMPLE.read_text(encoding="utf-8").splitlines())) <= 104
