"""What can be read of a deploy.yml with ERB in it, without running Ruby."""

import re
from typing import NamedTuple

# It stands for a value that only Ruby knows. No host, label or alias is written like this.
UNKNOWN = "kamal_sd_cannot_know_this"

_TAG = re.compile(r"<%(?P<kind>[=#%-]?)(?P<code>.*?)(?:-?%>|\Z)", re.DOTALL)


class Plain(NamedTuple):
    """YAML text with the lines of the ERB text, and the lines on which Ruby would do something."""

    text: str
    computed: tuple[int, ...]
    steered: tuple[int, ...]


def plain(text: str) -> Plain:
    """The text without ERB: values become UNKNOWN, code and comments go.

    Code may repeat lines or leave them out; `steered` says where.
    """
    computed: list[int] = []
    steered: list[int] = []

    def without(found: re.Match[str]) -> str:
        if found["kind"] == "%":
            return "<%" + found["code"] + found[0][3 + len(found["code"]) :]
        line = text.count("\n", 0, found.start()) + 1
        breaks = "\n" * found[0].count("\n")
        if found["kind"] == "=":
            computed.append(line)
            return UNKNOWN + breaks
        if found["kind"] != "#":
            steered.append(line)
        return breaks

    return Plain(_TAG.sub(without, text), tuple(computed), tuple(steered))
