"""TLS to an engine at tcp://: the files it takes, and what its errors mean."""

import ssl
from pathlib import Path
from typing import NamedTuple

from docker.tls import TLSConfig

# What OpenSSL says of the engine's certificate (its X509_V_ERR numbers), and what mends it.
_EXPIRED = "renew it on the engine's host, or set the clock right"
_OTHER_CA = "set tls.ca to the CA that signed the engine's certificate"
_OTHER_NAME = "write the url with a name that the certificate has"
_MENDS = {
    **dict.fromkeys((9, 10), _EXPIRED),
    **dict.fromkeys((2, 7, 18, 19, 20, 21), _OTHER_CA),
    **dict.fromkeys((62, 64), _OTHER_NAME),
}
# What is in the text of any other error of OpenSSL, and what it means.
_CLIENT_REFUSED = (
    "it refuses the client certificate, or wants one: "
    "set tls.cert and tls.key to a pair that its CA signed and that has not expired"
)
_MEANINGS = {
    "alert certificate": _CLIENT_REFUSED,
    "alert bad certificate": _CLIENT_REFUSED,
    "alert unknown ca": _CLIENT_REFUSED,
    # The refusal itself can be lost when the connection ends with it.
    "eof occurred": f"it hung up; as a rule {_CLIENT_REFUSED}",
    "wrong version number": "it speaks no TLS there; correct the port, or take tls away",
    "key values mismatch": "tls.key is not the key of tls.cert",
    "no certificate or crl found": "there is no certificate in the file of tls.ca",
    "pem lib": "tls.cert and tls.key are not both PEM files",
}


class TlsFiles(NamedTuple):
    """PEM files. Without `ca` the system's CAs are trusted; `cert` and `key` come as a pair."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def config(self) -> TLSConfig:
        """For one connection, always with verification. Raises OSError that names its file."""
        for path in filter(None, self):
            path.open("rb").close()
        pair = (str(self.cert), str(self.key)) if self.cert and self.key else None
        return TLSConfig(client_cert=pair, verify=str(self.ca) if self.ca else _system_cas())


def words(error: ssl.SSLError) -> str:
    """One line on what is wrong, and what mends it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        mend = _MENDS.get(error.verify_code)
        said = f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
        return f"{said}; {mend}" if mend else said
    text = f"{error.reason or ''} {error.strerror}".replace("_", " ").lower()
    meanings = (meaning for part, meaning in _MEANINGS.items() if part in text)
    return next(meanings, f"TLS failed: {error.strerror}")


def _system_cas() -> str | bool:
    # requests' own True would be the CAs of certifi, to which no company adds its own.
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True
