"""TLS as a web config file has it: the context of the server, and who of its clients may stay."""

import ssl
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from app.settings_file import Place
from app.web_config import TlsServerConfig, WebFile

_SECTION = "tls_server_config"
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
# Go's names (crypto/tls, CipherSuites) and OpenSSL's.
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
# Those of TLS 1.3 are always on, in Go, too.
_ALWAYS_ON = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
_IP = "IP Address"


def context(file: WebFile, tls: TlsServerConfig) -> ssl.SSLContext:
    """A context of these files as they are now. Raises SettingsError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = _VERSIONS[tls.min_version]
    made.maximum_version = _VERSIONS[tls.max_version]
    if tls.prefer_server_cipher_suites:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if suites := [_cipher(file, index, name) for index, name in enumerate(tls.cipher_suites)]:
        made.set_ciphers(":".join(filter(None, suites)) or "DEFAULT")
    cert = _readable(file, "cert_file", tls.cert_file)
    key = _readable(file, "key_file", tls.key_file)
    try:
        # Without a password to give, OpenSSL would ask for one at the terminal.
        made.load_cert_chain(cert, key, password=lambda: b"")
    except OSError as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise file.error((_SECTION, "key_file"), f"{key} is not the key of {cert}") from None
        words = f"{cert} and {key} are not a certificate and its key, both PEM and not encrypted"
        raise file.error((_SECTION, "cert_file"), words) from None
    if tls.client_ca_file:
        ca = _readable(file, "client_ca_file", tls.client_ca_file)
        try:
            made.load_verify_locations(ca)
        except OSError:
            place: Place = (_SECTION, "client_ca_file")
            raise file.error(place, f"{ca} has no certificate as PEM") from None
        made.verify_mode = _VERIFY[tls.client_auth_type]
    return made


def has_san(certificate: Mapping[str, Any], allowed: Collection[str]) -> bool:
    """Whether one of the names of a client's certificate is allowed.

    `certificate` is as ssl.SSLSocket.getpeercert has it.
    """
    names = certificate.get("subjectAltName", ())
    return any((_ip(name) if kind == _IP else name) in allowed for kind, name in names)


def _ip(text: str) -> str:
    # OpenSSL writes IPv6 in full, and with a line break in some versions.
    return str(ip_address(text.strip()))


def _cipher(file: WebFile, index: int, name: str) -> str:
    if name in _ALWAYS_ON:
        return ""
    if name not in _CIPHERS:
        known = ", ".join(_CIPHERS)
        message = f"{name!r} is no cipher suite that is offered; known are {known}"
        raise file.error((_SECTION, "cipher_suites", index), message)
    return _CIPHERS[name]


def _readable(file: WebFile, key: str, path: Path) -> Path:
    whole = file.path.parent / path
    try:
        whole.open("rb").close()
    except OSError as error:
        message = f"{whole} cannot be read: {error.strerror}"
        raise file.error((_SECTION, key), message) from None
    return whole
