"""docs/continuity.svg: the run of deploys, one panel a measure and one row a way."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.benchmarks.rig import CLOSES, INTERVAL, KEEPS
from tests.benchmarks.runs import Result, Run
from tests.benchmarks.tables import false_share, lost_per_role, number

# Two colours that colour-blind people tell apart, on white, whatever the page's background is.
COLOURS = {KEEPS: "#0072b2", CLOSES: "#e69f00"}
NAMES = {KEEPS: "app keeps connections alive", CLOSES: "app closes connections"}
BAR = 0.38

LOST = "lost growth of a role\nper deploy, s"
Measure = tuple[str, Callable[[Result], float]]
MEASURES: Sequence[Measure] = (
    ("missed scrapes\nper deploy", lambda each: each.tally.missed / each.deploys),
    (
        "wrong samples (role or\nversion) per deploy",
        lambda each: (each.tally.wrong_role + each.tally.not_current) / each.deploys,
    ),
    ("false increase,\n% of the growth", lambda each: 100 * false_share(each)),
    (LOST, lost_per_role),
    (
        "from the old one's stop to\nthe new one's sample, s",
        lambda each: fmean(each.tally.after_stop or [0.0]),
    ),
)


def draw(run: Run, file: Path) -> None:
    """Write the plot; the format is that of the file's name."""
    names = list(dict.fromkeys(result.way.name for result in run.results))
    ours = {result.way.name for result in run.results if result.way.address}
    # What a file holds depends on the run alone, and its letters on no font of the reader's.
    with mpl.rc_context({"svg.hashsalt": "continuity", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(14, 1.6 + 0.48 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(MEASURES), sharey=True)
        for panel, (title, measure) in zip(panels, MEASURES, strict=True):
            for offset, service in ((-BAR / 2, KEEPS), (BAR / 2, CLOSES)):
                values = [measure(result) for result in run.results if result.service == service]
                places = [index + offset for index in range(len(names))]
                bars = panel.barh(places, values, BAR, color=COLOURS[service], label=NAMES[service])
                texts = panel.bar_label(bars, list(map(number, values)), padding=3, fontsize=8.5)
                for text in texts:
                    # The dotted line passes behind.
                    text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
            panel.set_title(title, fontsize=10)
            panel.margins(x=0.22)
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(axis="x", labelsize=8.5)
            panel.set_xlim(left=0)
        lost = [title for title, _ in MEASURES].index(LOST)
        line = panels[lost].axvline(INTERVAL / 2, color="#888888", linestyle=":", zorder=0)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        for label, name in zip(panels[0].get_yticklabels(), names, strict=True):
            label.set_fontweight("bold" if name in ours else "normal")
        handles, labels = panels[0].get_legend_handles_labels()
        handles.append(line)
        labels.append("half a scrape interval")
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        figure.savefig(file, facecolor="white", metadata={"Date": None}, dpi=110)
