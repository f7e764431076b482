"""What the answers of the engine's DNS to a role's managed name are worth."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from tests.benchmarks.asker import NONE, SAMPLING, SILENCE
from tests.benchmarks.lives import Lives

# By this much a join may have been done before the engine told of it.
SLACK = 0.05


class Sample(NamedTuple):
    """What was answered at a time."""

    at: float
    addresses: tuple[str, ...]


class Verdict(NamedTuple):
    """How many samples were so, and for how long at most in one go, in seconds."""

    samples: int
    one: int
    two: int
    longest_two: float
    nobody: int
    """Those without an address while the role had a container."""
    longest_nobody: float
    wrong: int
    """Those with the address of somebody who was not to have the name then."""


def parse(lines: Iterable[str], name: str) -> list[Sample]:
    """Return the samples of a name, of the lines that the asker printed."""
    samples = []
    for line in lines:
        at, asked, found = line.split()
        if asked == name:
            samples.append(
                Sample(float(at), () if found in {NONE, SILENCE} else tuple(found.split(",")))
            )
    return samples


def judge(samples: Sequence[Sample], lives: Lives, service: str, role: str) -> Verdict:
    """Judge a role's samples by what ran then."""
    two = [(each.at, len(each.addresses) > 1) for each in samples]
    nobody = [
        (each.at, not each.addresses and bool(lives.running(service, role, each.at)))
        for each in samples
    ]
    return Verdict(
        samples=len(samples),
        one=sum(len(each.addresses) == 1 for each in samples),
        two=sum(is_so for _, is_so in two),
        longest_two=longest(two),
        nobody=sum(is_so for _, is_so in nobody),
        longest_nobody=longest(nobody),
        wrong=sum(is_wrong(each, lives, service, role) for each in samples),
    )


def longest(samples: Iterable[tuple[float, bool]]) -> float:
    """Return the longest time in which it was so, a sample standing for the time up to the next."""
    runs = (list(run) for is_so, run in groupby(samples, key=lambda each: each[1]) if is_so)
    return max((run[-1][0] - run[0][0] + SAMPLING for run in runs), default=0.0)


def is_wrong(sample: Sample, lives: Lives, service: str, role: str) -> bool:
    """Tell whether an address is of neither the oldest one nor, once that has to stop, the next."""
    running = lives.running(service, role, sample.at)
    was_told = bool(running) and (running[0].told or sample.at) < sample.at
    allowed = running[:2] if was_told else running[:1]
    owners = {
        address: identity for at, identity, address in lives.joined if at <= sample.at + SLACK
    }
    return any(lives.by_id.get(owners.get(each, "")) not in allowed for each in sample.addresses)
