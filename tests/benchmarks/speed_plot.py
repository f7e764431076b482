"""docs/speed.svg: the answers of `/targets` a second."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

_OURS: Final = "#0072b2"
_OTHERS: Final = "#999999"


def draw(answers: Mapping[str, float], file: Path) -> None:
    """Write the plot of these; the format is that of the file's name."""
    ranked = sorted(answers.items(), key=lambda bar: bar[1])
    with mpl.rc_context({"svg.hashsalt": "speed", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(9, 0.9 + 0.42 * len(ranked)), layout="constrained")
        axes = figure.subplots()
        names, values = [name for name, _ in ranked], [value for _, value in ranked]
        colours = [_OURS if name.startswith("kamal-sd") else _OTHERS for name in names]
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3)
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.set_title("answers of /targets a second, over 16 connections", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, facecolor="white", metadata={"Date": None}, dpi=110)
