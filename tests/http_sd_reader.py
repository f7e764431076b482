"""A reader of HTTP SD answers that is at least as strict as Prometheus' own.

Prometheus decodes into `[]*targetgroup.Group` (discovery/targetgroup/targetgroup.go, with unknown
fields refused), takes label names of `model.LabelName.IsValidLegacy`, values of valid UTF-8, and
drops a target whose `__address__` it cannot split.
"""

import json
import re
from typing import Any, NamedTuple

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_ADDRESS = re.compile(r"(?:\[[0-9a-f:.]+\]|[A-Za-z0-9_.-]+):(\d+)", re.ASCII)


class Target(NamedTuple):
    """One target as Prometheus has it before relabelling."""

    address: str
    labels: dict[str, str]

    @property
    def series(self) -> dict[str, str]:
        """The labels that its time series get."""
        return {k: v for k, v in self.labels.items() if not k.startswith("__")}


def read(body: bytes) -> list[Target]:
    """The targets of an answer. Raises AssertionError where a strict reader refuses it."""
    groups = json.loads(body.decode("utf-8"), object_pairs_hook=_no_key_twice)
    assert isinstance(groups, list)
    found = []
    for group in groups:
        assert set(group) == {"targets", "labels"}, group
        for name, value in group["labels"].items():
            assert _LABEL_NAME.fullmatch(name), name
            assert isinstance(value, str)
            value.encode("utf-8")
        for address in group["targets"]:
            match = _ADDRESS.fullmatch(address)
            assert match, address
            assert 0 < int(match[1]) < 65_536
            found.append(Target(address, group["labels"]))
    identities = [frozenset(target.series.items()) for target in found]
    assert len(set(identities)) == len(identities), "two targets would write one series"
    return found


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), pairs
    return dict(pairs)
