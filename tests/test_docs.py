"""What the README and docs/ say is so: links, settings, jobs, metrics, commands."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from typer.testing import CliRunner, Result

from app import web_config
from app.cli.commands import cli
from app.deployfile import document, lint, roles
from app.settings import Settings
from app.settings_file import load
from tests import settings_page
from tests.engines.test_crowd import CROWD
from tests.lab.packages import require
from tests.lab.process import free_port, run
from tests.test_faults import FAULTS
from tests.test_peers import Recording

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("bare_environment")

PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])
IDS = [page.name for page in PAGES]
ADDRESS = "http://127.0.0.1:9889"


class Block(NamedTuple):
    """A block of code in a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(language: str) -> list[Block]:
    return [each for page in PAGES for each in _blocks(page) if each.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page.name, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def written(block: Block, path: Path) -> Path:
    """The block as a file; what it names in /run/secrets is beside it."""
    secret = path.with_name("secret")
    secret.write_text("a-token-of-some-length\n", encoding="utf-8")
    path.write_text(re.sub(r"/run/secrets/[\w-]+", str(secret), block.text), encoding="utf-8")
    return path


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= {
        *re.findall(r"\]\(docs/([\w.]+)\)", text)
    }


def test_every_fault_that_is_tried_has_its_row_and_no_other_has() -> None:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["fault", *(each.name for each in FAULTS), f"{CROWD:,} containers"]


def test_the_page_of_the_settings_is_as_it_is_made() -> None:
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page()


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_yaml_is_what_it_is_for(block: Block, tmp_path: Path) -> None:
    path = written(block, tmp_path / "config.yml")
    found: Mapping[str, Any] = yaml.safe_load(block.text)
    if {"servers", "accessories"} & set(found):
        app = roles.app_of(document.read("deploy.yml", "service: shop\n" + block.text))
        assert [each for each in lint.findings([app]) if each.severity == "error"] == []
    elif set(found) <= set(Settings.model_fields):
        assert load(path, environ={}) is not None
    elif set(found) <= {"basic_auth_users", "kamal_sd"}:
        assert web_config.load(path)
    else:
        assert set(found) <= {"scrape_configs", "relabel_configs", "global", "rule_files"}, found


@pytest.mark.real
@pytest.mark.parametrize(
    "block", [each for each in blocks("yaml") if "scrape_configs:" in each.text], ids=str
)
def test_every_job_is_one(block: Block, tmp_path: Path) -> None:
    require("prometheus")
    path = written(block, tmp_path / "prometheus.yml")
    assert "SUCCESS" in run(["promtool", "check", "config", path])


def kamal_sd(*words: str) -> Result:
    return CliRunner().invoke(cli, words, prog_name="kamal-sd")


def commands() -> Iterator[tuple[str, str]]:
    for block in blocks("console"):
        joined = block.text.replace("\\\n", " ")
        for line in joined.splitlines():
            if line.startswith("$ "):
                yield str(block), line.removeprefix("$ ")
    for page in PAGES:
        for code in re.findall(r"`(kamal-sd [^`]+)`", page.read_text(encoding="utf-8")):
            yield page.name, " ".join(code.split())


COMMANDS = sorted(set(commands()))
OURS = [each for each in COMMANDS if re.match(r"(\.venv/bin/)?kamal-sd ", each[1])]


@pytest.mark.parametrize(("place", "command"), OURS, ids=[f"{a} {b}" for a, b in OURS])
def test_every_command_of_ours_is_taken_apart_without_a_mistake(place: str, command: str) -> None:
    _, *words = shlex.split(command.partition(" --help")[0])
    if words[:1] == ["--install-completion"]:
        return
    shown = kamal_sd(*(word for word in words if word != "…"), "--help")
    assert (shown.exit_code, shown.stderr) == (0, ""), place


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    with Recording(tmp_path_factory.mktemp("recording"), free_port()) as running:
        yield running


@pytest.mark.parametrize(
    "command", sorted({each for _, each in COMMANDS if each.startswith("curl ")})
)
def test_every_request_is_answered(recording: Recording, command: str) -> None:
    words = shlex.split(command.replace(ADDRESS, recording.url))
    assert run([*words, "--fail"])


@pytest.mark.parametrize(
    "command", sorted({each for _, each in COMMANDS if f"--url {ADDRESS}" in each})
)
def test_every_look_at_a_server_shows_it(recording: Recording, command: str) -> None:
    _, *words = shlex.split(command.replace(ADDRESS, recording.url))
    shown = kamal_sd(*words)
    assert shown.exit_code == 0
    assert "shop" in shown.stdout


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
        assert named <= targets, page.name


def test_the_chinese_readme_goes_in_step_with_the_english_one() -> None:
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")
    )

    def bones(text: str) -> list[str]:
        """The depth of each heading, and each block of code whole, in their order."""
        found = re.findall(r"^#+(?= )|^```.*?^```$", text, re.MULTILINE | re.DOTALL)
        return [str(each) for each in found]

    def names(text: str) -> set[str]:
        """What is spelled as code, and every link."""
        made = r"^```.*?^```$|<!-- made by.*?<!-- end"
        outside = re.sub(made, "", text, flags=re.MULTILINE | re.DOTALL)
        return {*re.findall(r"`([^`\n]+)`", outside), *re.findall(r"\]\(([^)]+)\)", outside)}

    assert bones(chinese) == bones(english)
    only_english = {"README.zh.md", "keeps", "closes"}
    assert names(chinese) - {"README.md"} == names(english) - only_english
