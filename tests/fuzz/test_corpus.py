"""The corpus of `make fuzz`, once: recordings, examples, and what was found to break something."""

from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_comes_out_but_what_is_documented(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "FOLDER", tmp_path)
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        TARGETS[name](data)
        # And a file of which half was written, or what was cut off.
        for part in (data[: len(data) // 2], data[len(data) // 2 :], data[:-2]):
            TARGETS[name](part)


def test_the_corpus_is_of_these_targets() -> None:
    assert {each.name for each in CORPUS.iterdir()} == set(TARGETS)
