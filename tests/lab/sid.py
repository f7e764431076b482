"""Programs that are newer than the machine's Debian, from Debian sid, which stays uninstalled."""

import shutil
from pathlib import Path

from tests.lab.packages import CACHE, apt_environment, unpacked
from tests.lab.process import LabError, is_root, run

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
        f"Types: deb\nURIs: {_mirror()}\nSuites: sid\nComponents: main\nSigned-By: {KEYRING}\n"
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


def _mirror() -> str:
    """Return the address from which this machine gets Debian itself."""
    if shutil.which("apt-get") is None:
        raise LabError("the lab needs packages of Debian sid, and this is no Debian machine")
    fields = "$(LABEL) $(COMPONENT) $(REPO_URI)"
    targets = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    found = run(targets, env=apt_environment())
    if "Debian main" not in found and is_root():
        # The label stands in the lists, which a fresh machine lacks.
        run(["apt-get", "-qq", "update"], env=apt_environment(), timeout=300)
        found = run(targets, env=apt_environment())
    for line in found.splitlines():
        label, _, rest = line.partition(" ")
        if label == "Debian" and rest.startswith("main "):
            return rest.removeprefix("main ")
    raise LabError("apt's sources name no mirror of Debian; run `apt-get update` as root")
