"""What `make release` makes: the same bytes for the same commit, and nothing that is not in it."""

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from email.parser import Parser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from app import __version__
from tests.lab.process import system_environment
from tests.lab.sd import REPOSITORY

BIN = Path(sys.executable).parent
NOTES = REPOSITORY / ".ci" / "release_notes.py"
WHEEL = f"kamal_sd-{__version__}-py3-none-any.whl"
SDIST = f"kamal_sd-{__version__}.tar.gz"
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": "2026-01-31T12:00:00Z",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_COMMITTER_DATE": "2026-01-31T12:00:00Z",
}
EPOCH = "1769860800"
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".*_cache", ".coverage*", ".hypothesis", "__pycache__", "dist"
)


class Checkout(NamedTuple):
    """A clean work tree of what is here, committed or not."""

    path: Path

    def git(self, *args: str) -> str:
        environment = system_environment(**GIT)
        command = ["git", "-C", str(self.path), *args]
        return subprocess.run(
            command, env=environment, capture_output=True, check=True, text=True
        ).stdout.strip()

    def release(
        self, *parts: str, umask: int = 0o022, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path / ".ci" / "release", *parts],
            env=system_environment(BIN=str(BIN), **GIT) | env,
            umask=umask,
            capture_output=True,
            check=False,
            text=True,
        )

    @property
    def dist(self) -> Path:
        return self.path / "dist"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Released but for what needs more than the tests' own programs."""
    checkout = Checkout(tmp_path_factory.mktemp("release") / "kamal-sd")
    shutil.copytree(REPOSITORY, checkout.path, ignore=NOT_SOURCE)
    checkout.git("init", "--quiet")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message=All of it")
    done = checkout.release("packages", "notes", "sums")
    assert done.returncode == 0, done.stderr
    assert "not committed" not in done.stderr
    return checkout


@pytest.fixture
def clone(released: Checkout, tmp_path: Path) -> Checkout:
    released.git("clone", "--quiet", str(released.path), str(tmp_path / "clone"))
    return Checkout(tmp_path / "clone")


@pytest.fixture(scope="module")
def unpacked(released: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as an installation has them."""
    path = tmp_path_factory.mktemp("wheel")
    shutil.unpack_archive(released.dist / WHEEL, path, "zip")
    return path


def python(unpacked: Path, *args: str) -> str:
    """What Python prints with the wheel's files and without git."""
    return subprocess.run(
        [sys.executable, *args],
        env={"PYTHONPATH": str(unpacked), "PATH": "/nonexistent", "HOME": str(unpacked)},
        cwd=unpacked.parent,
        capture_output=True,
        check=True,
        text=True,
    ).stdout


def test_the_version_is_in_one_place(unpacked: Path) -> None:
    changelog = sections((REPOSITORY / "CHANGELOG.md").read_text())
    assert next(iter(changelog)) in {"Unreleased", __version__}
    metadata = Parser().parsestr((dist_info(unpacked) / "METADATA").read_text())
    assert (metadata["Name"], metadata["Version"]) == ("kamal-sd", __version__)
    for name in ("pyproject.toml", "Makefile", ".ci/release", ".github/workflows/release.yml"):
        assert __version__ not in (REPOSITORY / name).read_text(), name


def test_the_same_commit_gives_the_same_bytes(released: Checkout, clone: Checkout) -> None:
    (clone.path / "app" / "left.py").write_text("LEFT = 1\n")
    (clone.path / "README.md").write_text("Changed.\n")
    done = clone.release("packages", "notes", "sums", umask=0o077, TZ="Asia/Tokyo", LANG="C")
    assert done.returncode == 0, done.stderr
    assert "M README.md" in done.stderr
    assert "?? app/left.py" in done.stderr
    names = {each.name for each in released.dist.iterdir()}
    assert names == {WHEEL, SDIST, f"kamal-sd-{__version__}-notes.md", "SHA256SUMS"}
    for name in names:
        assert (released.dist / name).read_bytes() == (clone.dist / name).read_bytes(), name


def test_the_sdist_makes_the_same_wheel(released: Checkout, tmp_path: Path) -> None:
    with tarfile.open(released.dist / SDIST) as sdist:
        sdist.extractall(tmp_path, filter="data")
    subprocess.run(
        [BIN / "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=tmp_path / SDIST.removesuffix(".tar.gz"),
        env=system_environment(SOURCE_DATE_EPOCH=EPOCH),
        capture_output=True,
        check=True,
    )
    assert (tmp_path / WHEEL).read_bytes() == (released.dist / WHEEL).read_bytes()


def test_the_wheel_has_the_program_and_its_recordings_and_no_tests(unpacked: Path) -> None:
    names = files(unpacked)
    assert {name for name in names if name.startswith("app/")} == {
        f"app/{name}" for name in files(REPOSITORY / "app")
    }
    rest = {name for name in names if not name.startswith("app/")}
    assert {name.partition("/")[0] for name in rest} == {dist_info(unpacked).name}
    assert f"{dist_info(unpacked).name}/licenses/LICENSE" in rest
    film = "from app.engine.recording import film; print(film().length > 0, film.__module__)"
    assert python(unpacked, "-c", film) == "True app.engine.recording\n"


def test_the_wheel_says_its_commit_without_git(released: Checkout, unpacked: Path) -> None:
    commit = released.git("rev-parse", "HEAD")
    said = python(unpacked, "-m", "app", "--version")
    assert said == f"kamal-sd {__version__} (commit {commit[:7]})\n"
    whole = "import app; print(app.__revision__)"
    assert python(unpacked, "-c", whole) == f"{commit}\n"


def test_a_checkout_says_no_commit(clone: Checkout) -> None:
    said = python(clone.path, "-m", "app", "--version")
    assert said == f"kamal-sd {__version__}\n"


def test_the_sums_fit(released: Checkout) -> None:
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=released.dist, check=True
    )


def test_a_tag_needs_its_version_and_its_notes(clone: Checkout) -> None:
    done = clone.release("notes", TAG="v99.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The tag v99.0.0 does not fit the version in app/__init__.py")
    tag = f"v{__version__}"
    changelog = clone.path / "CHANGELOG.md"
    for heading, code in (("## Unreleased", 1), (f"## {__version__} (2026-01-31)", 0)):
        changelog.write_text(f"# Changelog\n\n{heading}\n\n- It works.\n")
        clone.git("commit", "--quiet", "--all", "--message=Notes")
        done = clone.release("notes", TAG=tag)
        assert done.returncode == code, done.stderr
    assert (clone.dist / f"kamal-sd-{__version__}-notes.md").read_text() == "- It works.\n"


def test_the_sbom_is_of_the_lock_and_of_this_version(clone: Checkout, tmp_path: Path) -> None:
    # The tool itself is there for `make release` alone.
    tool = tmp_path / "python"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncp "$8" {tmp_path}/pyproject.toml\n')
    tool.chmod(0o755)
    done = clone.release("sbom", BIN=str(tmp_path))
    assert done.returncode == 0, done.stderr
    args = (tmp_path / "args").read_text().split()
    assert args[:4] == ["-W", "ignore::UserWarning", "-m", "cyclonedx_py"]
    assert Path(args[5]).name == "requirements.lock"
    assert args[-1] == str(clone.dist / f"kamal-sd-{__version__}.cdx.json")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == ("kamal-sd", __version__)
    assert "dynamic" not in project


class Docker(NamedTuple):
    """A `docker` that writes down how it was asked to build."""

    directory: Path

    @property
    def path(self) -> str:
        return f"{self.directory}:{system_environment()['PATH']}"

    def write(self, script: str) -> None:
        program = self.directory / "docker"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    directory = tmp_path / "bin"
    directory.mkdir()
    return Docker(directory)


def test_the_image_is_built_from_the_commit(clone: Checkout, docker: Docker) -> None:
    log = docker.directory / "log"
    docker.write(
        f'[ "$1" = build ] || exit 0\n'
        f'for each; do echo "$each"; done > {log}\n'
        f'cd "$each" && cp app/__init__.py Dockerfile {docker.directory}'
    )
    (clone.path / "Dockerfile").write_text("FROM elsewhere\n")
    commit = clone.git("rev-parse", "HEAD")
    more = "--platform linux/amd64,linux/arm64 --push"
    done = clone.release("image", PATH=docker.path, IMAGE="r.example.com/sd", IMAGE_ARGS=more)
    assert done.returncode == 0, done.stderr
    command, *words, _tree = log.read_text().splitlines()
    assert command == "build"
    assert words[:2] == ["--tag", f"r.example.com/sd:{__version__}"]
    assert {f"VERSION={__version__}", f"REVISION={commit}", f"SOURCE_DATE_EPOCH={EPOCH}"} < set(
        words
    )
    assert words[-3:] == more.split()
    assert f'"{commit}"' in (docker.directory / "__init__.py").read_text()
    assert "elsewhere" not in (docker.directory / "Dockerfile").read_text()


def test_without_an_engine_there_is_no_image_and_it_says_how_to_go_on(
    clone: Checkout, docker: Docker
) -> None:
    docker.write("exit 1")
    done = clone.release("image", PATH=docker.path)
    assert done.returncode == 1
    assert "no Docker Engine answers" in done.stderr
    parts = re.findall(r"make release PARTS='(.+)'", done.stderr)
    assert [each.split() for each in parts] == [["packages", "notes", "sbom", "sums"]]


def test_a_part_that_there_is_not(clone: Checkout) -> None:
    done = clone.release("notes", "wheel")
    assert done.returncode == 1
    assert done.stderr.startswith("There is no part wheel")
    assert not clone.dist.exists()


CHANGELOG = """\
# Changelog

Words before.

## Unreleased

## [0.2.0] - 2026-02-01

### Added

- Two `##` in a line.

## 0.1.0 (2026-01-31)

### Added

- One.
"""


def sections(changelog: str) -> dict[str, str]:
    found: dict[str, str] = runpy.run_path(str(NOTES))["sections"](changelog)
    return found


def test_the_notes_are_what_stands_below_the_version() -> None:
    assert sections(CHANGELOG) == {
        "Unreleased": "",
        "0.2.0": "### Added\n\n- Two `##` in a line.",
        "0.1.0": "### Added\n\n- One.",
    }
    assert sections("# Changelog\n") == {}


@pytest.mark.parametrize(
    ("args", "code", "out", "err"),
    [
        (["0.1.0", "--released"], 0, "### Added\n\n- One.\n", ""),
        (["0.3.0", "--released"], 1, "", "CHANGELOG.md says nothing below a heading ## 0.3.0\n"),
        # What is unreleased is empty here.
        (["0.3.0"], 1, "", "CHANGELOG.md says nothing below a heading ## 0.3.0\n"),
        (["0.1"], 1, "", "CHANGELOG.md says nothing below a heading ## 0.1\n"),
    ],
)
def test_notes_by_the_command(
    tmp_path: Path, args: list[str], code: int, out: str, err: str
) -> None:
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(CHANGELOG)
    command: list[str | Path] = [sys.executable, NOTES, changelog, *args]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


# Who may write, and what: nobody else.
WRITERS = {
    ("release.yml", "image"): {"contents": "read", "packages": "write"},
    ("release.yml", "publish"): {"contents": "write"},
}


def workflows() -> dict[str, dict[str, Any]]:
    folder = REPOSITORY / ".github" / "workflows"
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yml"))}


def test_workflows_may_write_only_where_they_must() -> None:
    assert set(workflows()) == {"ci.yml", "release.yml"}
    for name, workflow in workflows().items():
        assert workflow["permissions"] == {"contents": "read"}
        for job, content in workflow["jobs"].items():
            assert content.get("permissions") == WRITERS.get((name, job)), (name, job)


def test_workflows_use_actions_by_their_major_version() -> None:
    for workflow in workflows().values():
        for job in workflow["jobs"].values():
            steps = job.get("steps", [job])
            for used in [step["uses"] for step in steps if "uses" in step]:
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+|\./\.github/workflows/ci\.yml", used)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "ci.yml", "release.yml"])
def test_what_is_told_to_run_is_there(name: str) -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    folder = REPOSITORY / ".github" / "workflows" if name.endswith(".yml") else REPOSITORY
    text = (folder / name).read_text()
    used = re.findall(r"(?:run: |\$ |`)make ([a-z-]+)", text)
    assert used
    assert set(used) <= set(targets)
    for path in re.findall(
        r"\]\((?!https?:|#)([^)]+)\)|(?<=`)((?:app|tests|deploy)/[\w./-]*)`", text
    ):
        assert (REPOSITORY / "".join(path)).exists(), path


def dist_info(unpacked: Path) -> Path:
    return unpacked / f"kamal_sd-{__version__}.dist-info"


def files(folder: Path) -> set[str]:
    return {
        each.relative_to(folder).as_posix()
        for each in folder.rglob("*")
        if each.is_file() and "__pycache__" not in each.parts
    }
