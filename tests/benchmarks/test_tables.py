import pytest

from tests.benchmarks.judgement import Tally
from tests.benchmarks.runs import Result
from tests.benchmarks.tables import DEPLOYS, for_markdown, middle_and_worst, number, percent
from tests.benchmarks.ways import Way

TALLY = Tally(
    missed=3,
    wrong_role=40,
    false_increase=11.0,
    unseen_reset=1.0,
    growth=100.0,
    tails=[1.0, 4.0],
    after_stop=[2.0, 3.0, 7.0],
    after_start=[13.0, 14.0, 18.0],
    never_seen=1,
)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.05, "0.05"), (0.1, "0.1"), (12.34, "12.3"), (-0.04, "-0.04")]
)
def test_only_nothing_is_0(value: float, text: str) -> None:
    assert number(value) == text


def test_parts_and_delays() -> None:
    assert percent(0.0) == "0"
    assert percent(0.1234) == "12.3 %"
    assert middle_and_worst([]) == "never"
    assert middle_and_worst([1.0, 9.0, 2.0]) == "2.0 (9.0)"
    assert middle_and_worst([1.0], never=2) == "1.0 (1.0), 2 never"


def test_a_markdown_table_has_a_row_a_result() -> None:
    lines = for_markdown(DEPLOYS, [Result(Way("a way", {}), "keeps", 20, TALLY, -0.03)])
    head, ruler, row = lines.splitlines()
    assert head.startswith("| way | app | new series | missed scrapes |")
    assert ruler.count("|") == head.count("|") == row.count("|")
    assert row == (
        "| a way | keeps | 0 | 0.1 | 2.0 | 0 | 0 | 11.0 % | 3.0 | -3.0 % "
        "| 3.0 (7.0), 1 never | 14.0 (18.0) |"
    )
