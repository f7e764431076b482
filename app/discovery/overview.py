"""The document of /explain, put together for people: a row for each slot, and all the rest."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from app.discovery.explain import DecisionDocument, EntryDocument, ExplainDocument
from app.model import FAULTS, Reason

_STANDING = frozenset({Reason.CURRENT, Reason.KEPT})


# What a search looks at.
_WORDS = ("host", "slot", "version", "container", "container_id", "reason", "detail", "instance")


class Row(NamedTuple):
    """A slot: who stands for it, a decision each metrics port; who comes next; what happened."""

    host: str
    slot: str
    standing: tuple[DecisionDocument, ...]
    candidates: tuple[DecisionDocument, ...]
    refused: tuple[DecisionDocument, ...]
    history: tuple[EntryDocument, ...]

    @property
    def decisions(self) -> tuple[DecisionDocument, ...]:
        """All of them, what stands for the slot first."""
        return (*self.standing, *self.refused, *self.candidates)

    @property
    def first(self) -> DecisionDocument:
        """The decision that tells what the slot is."""
        return (self.standing or self.refused or self.candidates)[0]

    @property
    def status(self) -> str:
        """The slot in one word."""
        if not self.standing:
            return "refused"
        if self.first["reason"] == Reason.KEPT:
            return "down"
        if self.candidates:
            return "deploying"
        if self.first["health"] == "unhealthy" or self.first["state"] == "paused":
            return self.first["health"] if self.first["state"] == "running" else "paused"
        return "refused" if self.refused else "ok"

    @property
    def is_well(self) -> bool:
        """Whether nobody has to look at it."""
        return self.status in ("ok", "deploying")


class Overview(NamedTuple):
    """The rows of the slots in their order, and the decisions that are in none of them."""

    rows: tuple[Row, ...]
    others: tuple[DecisionDocument, ...]


def overview(document: ExplainDocument) -> Overview:
    """All of the document, in rows."""
    by_slot: dict[tuple[str, str], list[DecisionDocument]] = {}
    for each in document["decisions"]:
        if each["slot"]:
            by_slot.setdefault((each["host"], each["slot"]), []).append(each)
    history: dict[tuple[str, str], list[EntryDocument]] = {}
    for entry in document["history"]:
        history.setdefault((entry["host"], entry["slot"]), []).append(entry)
    rows = []
    shown: set[int] = set()
    for place, decisions in by_slot.items():
        row = _row(place, decisions, history)
        if row.standing or row.refused or row.candidates:
            rows.append(row)
            shown.update(map(id, row.decisions))
    others = tuple(each for each in document["decisions"] if id(each) not in shown)
    return Overview(tuple(rows), others)


def passing(whole: Overview, *, text: str = "", host: str = "", reason: str = "") -> Overview:
    """What has the text in its words, is of the host, and has a decision of the reason."""

    def passes(each: DecisionDocument) -> bool:
        words = " ".join(each[name] for name in _WORDS).lower()  # type: ignore[literal-required]
        return (
            text.lower() in words
            and (not host or each["host"] == host)
            and (not reason or each["reason"] == reason)
        )

    return Overview(
        tuple(row for row in whole.rows if any(map(passes, row.decisions))),
        tuple(each for each in whole.others if passes(each)),
    )


def _row(
    place: tuple[str, str],
    decisions: Iterable[DecisionDocument],
    history: Mapping[tuple[str, str], list[EntryDocument]],
) -> Row:
    decisions = tuple(decisions)
    return Row(
        *place,
        standing=tuple(each for each in decisions if each["reason"] in _STANDING),
        candidates=tuple(each for each in decisions if each["reason"] == Reason.CANDIDATE),
        refused=tuple(each for each in decisions if each["reason"] in FAULTS),
        history=tuple(history.get(place, ())),
    )


def age(seconds: float) -> str:
    """A time span in its one largest unit, as `docker ps` has it."""
    left = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if left >= size:
            return f"{left // size}{unit}"
    return f"{left}s"
