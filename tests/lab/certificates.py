"""Certificates of the lab's own, made by OpenSSL."""

from pathlib import Path
from typing import NamedTuple

from tests.lab.packages import require
from tests.lab.process import run


class Pair(NamedTuple):
    """The PEM files of a certificate and of its key."""

    cert: Path
    key: Path


class Authority:
    """A CA in a folder, which holds what it signs, too."""

    def __init__(self, folder: Path) -> None:
        require("openssl")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = self.pair("ca")
        self._request("ca", "basicConstraints=critical,CA:TRUE", "-x509", "-out", self.file)

    @property
    def file(self) -> Path:
        return self._own.cert

    def pair(self, name: str) -> Pair:
        """Return where the pair of that name is, signed or not yet."""
        return Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")

    def sign(self, name: str, *, subject: str = "IP:127.0.0.1", days: int = 1) -> Pair:
        """Return a new pair under that name, in place of an older one; with -1 day an expired."""
        pair = self.pair(name)
        request = self._folder / f"{name}.csr"
        self._request(name, f"subjectAltName={subject}", "-new", "-out", request)
        command: list[str | Path] = [
            "openssl",
            "x509",
            "-req",
            "-in",
            request,
            "-copy_extensions",
            "copyall",
        ]
        command += ["-CA", self.file, "-CAkey", self._own.key, "-CAcreateserial"]
        run([*command, "-days", str(days), "-out", pair.cert])
        return pair

    def _request(self, name: str, extension: str, *options: str | Path) -> None:
        command = ["openssl", "req", "-nodes", "-subj", f"/CN=lab-{name}", "-addext", extension]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        run([*command, "-keyout", self.pair(name).key, *options])
