"""The README's table is the one that the benchmark wrote."""

from pathlib import Path

import pytest

from tests.benchmarks import readme
from tests.lab.sd import REPOSITORY


def test_the_readme_has_what_the_last_run_wrote(tmp_path: Path) -> None:
    document = (REPOSITORY / "docs/continuity.md").read_text(encoding="utf-8")
    ours = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    copy = tmp_path / "README.md"
    copy.write_text(ours, encoding="utf-8")
    readme.update(copy, document)
    assert copy.read_text(encoding="utf-8") == ours
    assert "kamal-sd relay" in readme.excerpt(document)


def test_a_readme_without_its_marks_is_not_touched(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text("nothing\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        readme.put_between(copy, readme.BEGIN, readme.END, "a table\n")
    assert copy.read_text() == "nothing\n"


def test_an_excerpt_has_its_columns_and_no_others() -> None:
    heads = ["way", "more", *readme.COLUMNS[:0:-1]]
    cells = [f"of {head}" for head in heads]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (heads, cells))
    head, row = readme.excerpt(f"text\n{table}\n\n| another | table |\n").splitlines()
    assert head == f"| {' | '.join(readme.COLUMNS)} |"
    assert row == "| " + " | ".join(f"of {column}" for column in readme.COLUMNS) + " |"
