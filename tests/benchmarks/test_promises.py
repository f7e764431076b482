from tests.benchmarks.judgement import Tally
from tests.benchmarks.promises import broken
from tests.benchmarks.runs import Result, Run
from tests.benchmarks.ways import Way

MISSED = Tally(missed=2, growth=100.0)
NEW = Tally(new_series=1, growth=100.0)
CLEAN = Tally(growth=100.0, tails=[2.5], after_stop=[1.0], after_start=[12.0])


def run(address: str, tally: Tally) -> Run:
    return Run(20, [Result(Way(f"by {address}", {}, address), "keeps", 20, tally, 0.0)])


def test_a_run_without_traces_is_as_promised() -> None:
    assert broken(run("relay", CLEAN), run("relay", CLEAN)) == []
    assert broken(None, None) == []


def test_the_relay_promises_everything_in_both_runs() -> None:
    assert broken(run("relay", MISSED), run("relay", NEW)) == [
        "by relay, the app that keeps: 2 missed scrapes in deploys",
        "by relay, the app that keeps: 1 new series in failing deploys",
    ]


def test_the_other_ways_promise_less() -> None:
    assert broken(run("ip", MISSED), None) == []
    assert broken(run("alias", NEW), run("alias", MISSED)) == [
        "by alias, the app that keeps: 1 new series in deploys"
    ]
    assert len(broken(None, run("ip", MISSED))) == 1
    # What is not kamal-sd's promises nothing.
    assert broken(run("", NEW), run("", NEW)) == []
