"""Programs that are newer than the machine's Debian, from Debian sid, which stays uninstalled."""

from pathlib import Path

from tests.lab.packages import CACHE, mirror, unpacked
from tests.lab.process import LabError

FOLDER = CACHE / "sid"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def from_sid(package: str) -> Path:
    """Return a folder with the files of the package as Debian sid has it.

    apt gets a list of sources and a state of its own, so the machine's settings stay as they are.
    What runs from there runs with the machine's libraries.
    """
    folder = FOLDER / package
    if folder.is_dir():
        return folder
    try:
        return unpacked(package, folder, _options())
    except LabError as error:
        raise LabError(
            f"the lab needs the package {package} of Debian sid, and cannot get it: {error}\n"
            f"By hand: get its .deb, and run `dpkg -x {package}_*.deb {folder}`"
        ) from None


def _options() -> list[str]:
    """Return the options with which apt knows Debian sid alone, from the machine's own mirror."""
    apt = FOLDER / ".apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    sources = apt / "sid.sources"
    sources.write_text(
        f"Types: deb\nURIs: {mirror()}\nSuites: sid\nComponents: main\nSigned-By: {KEYRING}\n"
    )
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "Acquire::Languages": "none",
        # Its unprivileged user could not write below the cache.
        "APT::Sandbox::User": "root",
    }
    return [f"--option={name}={value}" for name, value in settings.items()]
