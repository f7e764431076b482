"""The judgement of a managed name's answers."""

import socket
import struct

import pytest

from tests.benchmarks.answers import Sample, judge, longest, parse
from tests.benchmarks.asker import addresses, question
from tests.benchmarks.lives import Life, Lives
from tests.lab.engine import Docker

OLD, NEW, STRANGER = "10.0.0.2", "10.0.0.3", "10.0.0.9"


@pytest.fixture
def lives() -> Lives:
    """Of web: the old one has to stop at 20 and ends at 21, the new one starts at 10."""
    lives = Lives(Docker("unix:///nowhere"), "kamal-sd")
    lives.by_id = {
        "old": Life("shop", "web", "shop-web-1", 0, 20, 21),
        "new": Life("shop", "web", "shop-web-2", 10),
        "other": Life("till", "web", "till-web-1", 0),
    }
    lives.joined = [(1, "old", OLD), (20.12, "new", NEW)]
    return lives


def test_parse() -> None:
    lines = ["1.5 a.kamal-sd 10.0.0.2", "1.6 b.kamal-sd 10.0.0.9", "2 a.kamal-sd 10.0.0.2,10.0.0.3"]
    lines += ["3 a.kamal-sd -", "4 a.kamal-sd ?"]
    assert parse(lines, "a.kamal-sd") == [
        Sample(1.5, (OLD,)),
        Sample(2, (OLD, NEW)),
        Sample(3, ()),
        Sample(4, ()),
    ]


def test_a_change_of_hands(lives: Lives) -> None:
    samples = [Sample(19, (OLD,)), Sample(20.1, (OLD, NEW)), Sample(20.12, (NEW,))]
    found = judge(samples, lives, "shop", "web")
    assert (found.samples, found.one, found.two, found.nobody, found.wrong) == (3, 2, 1, 0, 0)
    assert found.longest_two == pytest.approx(0.02)


@pytest.mark.parametrize(
    "sample",
    [Sample(19, (NEW,)), Sample(20.5, (STRANGER,)), Sample(22, (OLD,)), Sample(19, (OLD, NEW))],
    ids=["a candidate", "a stranger", "one that ended", "a candidate, too"],
)
def test_an_address_of_somebody_else(lives: Lives, sample: Sample) -> None:
    lives.joined.append((15, "new", NEW))
    assert judge([sample], lives, "shop", "web").wrong == 1


def test_nobody(lives: Lives) -> None:
    assert judge([Sample(5, ())], lives, "shop", "web").nobody == 1
    assert judge([Sample(5, ())], lives, "shop", "job").nobody == 0


def test_longest() -> None:
    samples = [(0.0, True), (0.02, True), (0.04, False), (0.06, True), (0.08, False)]
    assert longest(samples) == pytest.approx(0.04)
    assert longest([(0.0, False)]) == 0


def test_the_engines_answers() -> None:
    query = question("shop-web.kamal-sd", 7)
    head = struct.pack(">6H", 7, 0x8180, 1, 2, 0, 0)
    record = struct.pack(">2HIH", 1, 1, 600, 4)
    by_pointer = b"\xc0\x0c" + record + socket.inet_aton(NEW)
    written_out = query[12:-4] + record + socket.inet_aton(OLD)
    answer = head + query[12:] + by_pointer + written_out
    assert addresses(query, answer) == [OLD, NEW]
