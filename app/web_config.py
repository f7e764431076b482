"""The web config file, as every exporter of Prometheus has it, with a section of our own.

Its keys: github.com/prometheus/exporter-toolkit, docs/web-configuration.md. What of it cannot be
had here is refused where it stands, and never passed over: it is there for somebody's safety.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from app import grammar
from app.settings_file import Lines, Place, SettingsError, problem_at, problems_of, read

Right = Literal["targets", "read", "scrape", "reload"]
Rights = frozenset[Right]
ALL_RIGHTS: Rights = frozenset(get_args(Right))

# A hash of a higher cost takes longer than 5 s of one processor for each login.
_HIGHEST_COST = 16
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_HAS_PORT = re.compile(r".*:\d+", re.ASCII)
# RFC 6750, 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
# Whoever guesses a token is not slowed down, so there must be no guessing it.
_SHORTEST_TOKEN = 16

Version = Literal["TLS12", "TLS13"]
_VERSIONS: tuple[Version, ...] = get_args(Version)
# What other exporters have, and what to do without it.
_NOT_OFFERED = {
    **{name: f"name a PEM file in {name}_file" for name in ("cert", "key", "client_ca")},
    "curve_preferences": "take it away: OpenSSL's own hold",
    "rate_limit": "take it away, and limit the rate in a proxy",
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")


def _not_offered(_: object, info: ValidationInfo) -> object:
    mend = _NOT_OFFERED[info.field_name or ""]
    raise ValueError(f"is not offered by kamal-sd; {mend}")


def _version(value: object) -> object:
    if value in ("TLS10", "TLS11"):
        raise ValueError(f"{value} is broken, and is not offered by kamal-sd; write TLS12 or TLS13")
    return value


def _client_auth_type(value: object) -> object:
    if value in _UNVERIFIED:
        raise ValueError(
            f"{value} takes a certificate of anybody, and is not offered by kamal-sd; "
            "write RequireAndVerifyClientCert"
        )
    return value


def _bcrypt_hash(text: str) -> str:
    # The text is never told: a password may stand here.
    match = _BCRYPT.fullmatch(text)
    if match is None:
        raise ValueError("is no bcrypt hash; make one with htpasswd -nBC 10 NAME")
    if not 4 <= int(match[1]) <= _HIGHEST_COST:  # noqa: PLR2004 - bcrypt's own
        raise ValueError(f"has the cost {match[1]}; it may be 04 to {_HIGHEST_COST}")
    return text


def _user(name: str) -> str:
    if ":" in name:
        raise ValueError("a user's name has no colon: HTTP ends it there")
    return name


def _host(text: str) -> str:
    lower = text.lower()
    if _HAS_PORT.fullmatch(lower):
        return grammar.authority(lower)
    if lower.startswith("["):
        return f"[{ip_address(lower.strip('[]'))}]"
    return grammar.host_name(lower)


def _header(text: str) -> str:
    if not text.isascii():
        raise ValueError("is no header; only ASCII can stand in one")
    return grammar.printable(text)


NotOffered = Annotated[object, BeforeValidator(_not_offered)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsServerConfig(_Checked):
    """TLS, and whether clients need a certificate. Paths begin at the file's own folder."""

    cert_file: Path
    key_file: Path
    client_auth_type: Annotated[
        Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"],
        BeforeValidator(_client_auth_type),
    ] = "NoClientCert"
    client_ca_file: Path | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Annotated[Version, BeforeValidator(_version)] = "TLS12"
    max_version: Annotated[Version, BeforeValidator(_version)] = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: NotOffered = None
    cert: NotOffered = None
    key: NotOffered = None
    client_ca: NotOffered = None

    @property
    def requires_client_cert(self) -> bool:
        """Whether nobody gets in without a certificate."""
        return self.client_auth_type == "RequireAndVerifyClientCert"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        verifies = self.client_auth_type != "NoClientCert"
        if verifies and not self.client_ca_file:
            raise ValueError(f"has {self.client_auth_type}; it needs client_ca_file, too")
        if self.client_ca_file and not verifies:
            raise ValueError(
                "has client_ca_file; write client_auth_type: RequireAndVerifyClientCert, too"
            )
        if self.client_allowed_sans and not self.requires_client_cert:
            raise ValueError(
                "has client_allowed_sans; write client_auth_type: RequireAndVerifyClientCert, too"
            )
        if _VERSIONS.index(self.min_version) > _VERSIONS.index(self.max_version):
            raise ValueError("has a min_version above its max_version")
        return self


class HttpServerConfig(_Checked):
    """Headers of every answer that has none of the name itself. HTTP/2 is never spoken."""

    http2: bool = True
    headers: Mapping[
        Literal[
            "Content-Security-Policy",
            "X-Frame-Options",
            "X-Content-Type-Options",
            "X-XSS-Protection",
            "Strict-Transport-Security",
        ],
        Annotated[str, AfterValidator(_header)],
    ] = Field(default_factory=dict)


class TokenConfig(_Checked):
    """A bearer token that stands in a file, and what whoever has it may do."""

    file: Path
    rights: Rights


class Extension(_Checked):
    """What other exporters do not have.

    `users` has the rights of those of basic_auth_users that shall not have all. With `hosts`, a
    request for any other host is refused; one without a port is allowed with every port.
    """

    tokens: tuple[TokenConfig, ...] = ()
    users: Mapping[str, Rights] = Field(default_factory=dict)
    hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = ()


def _not_empty(value: object) -> object:
    # Whoever writes the key wants TLS: an empty one must not mean none.
    if value is None:
        raise ValueError("is empty; it needs cert_file and key_file")
    return value


class WebConfig(_Checked):
    """A whole file."""

    tls_server_config: Annotated[TlsServerConfig | None, BeforeValidator(_not_empty)] = None
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: Mapping[
        Annotated[str, AfterValidator(_user)], Annotated[str, AfterValidator(_bcrypt_hash)]
    ] = Field(default_factory=dict)
    rate_limit: NotOffered = None
    kamal_sd: Extension = Extension()


_SECTIONS: dict[str, type[BaseModel]] = {
    "tls_server_config": TlsServerConfig,
    "http_server_config": HttpServerConfig,
    "kamal_sd": Extension,
    "tokens": TokenConfig,
}


class WebFile(NamedTuple):
    """What a web config file says. `tokens` has the token of each entry, in their order."""

    path: Path
    config: WebConfig
    lines: Lines
    tokens: tuple[bytes, ...]

    def error(self, place: Place, message: str) -> SettingsError:
        """The error of what turned out to be wrong at that place."""
        return SettingsError(str(self.path), [problem_at(self.lines, place, message)])

    @property
    def files(self) -> list[Path]:
        """The file, and all those that it names."""
        tls = self.config.tls_server_config
        of_tls = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
        named = [*of_tls, *(each.file for each in self.config.kamal_sd.tokens)]
        return [self.path, *(self.path.parent / each for each in named if each)]


def load(path: Path) -> WebFile:
    """Reads a file and the tokens that it names. Raises SettingsError with every mistake."""
    document, lines = read(path, "basic_auth_users: {}")
    try:
        config = WebConfig.model_validate(document)
    except ValidationError as error:
        raise SettingsError(str(path), problems_of(error, lines, _fields_at)) from None
    tokens: list[bytes] = []
    wrong = list(_strangers(config))
    for index, each in enumerate(config.kamal_sd.tokens):
        try:
            tokens.append(_token(path.parent / each.file))
        except ValueError as error:
            wrong.append((("kamal_sd", "tokens", index, "file"), str(error)))
    if wrong:
        problems = [problem_at(lines, place, message) for place, message in wrong]
        raise SettingsError(str(path), sorted(problems, key=lambda each: each.line or 0))
    return WebFile(path, config, lines, tuple(tokens))


def _strangers(config: WebConfig) -> Iterator[tuple[Place, str]]:
    for name in config.kamal_sd.users:
        if name not in config.basic_auth_users:
            yield ("kamal_sd", "users", name), "is none of basic_auth_users"


def _token(path: Path) -> bytes:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    # What stands in the file is never told.
    if not _TOKEN.fullmatch(text) or len(text) < _SHORTEST_TOKEN:
        raise ValueError(
            f"{path} has no token of at least {_SHORTEST_TOKEN} characters alone; "
            "make one with openssl rand -hex 32"
        )
    return text.encode()


def _fields_at(place: Place) -> Mapping[str, object]:
    names = [part for part in place if isinstance(part, str)]
    return (_SECTIONS[names[-1]] if names else WebConfig).model_fields
