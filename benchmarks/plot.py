"""Draws the ratios of a results file, in an environment that has matplotlib.

python -m benchmarks.plot results.json ratios.svg
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot, ticker

COLOURS = {"by hand": "#7f7f7f", "pocoflow": "#1f77b4"}


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    works = json.loads(source.read_text(encoding="utf-8"))["works"]
    shown = [(work, bars(work)) for work in works]
    shown = [(work, found) for work, found in shown if len(found) > 1]
    if not shown:
        raise SystemExit("nothing was compared")
    columns = min(3, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(5.6 * columns, 2.9 * lines), squeeze=False, layout="constrained"
    )
    for place in axes.flat:
        place.set_visible(False)
    for place, (work, found) in zip(axes.flat, shown, strict=False):
        draw(place, work, found)
    figure.savefig(target)


def bars(work: dict[str, Any]) -> list[tuple[str, float]]:
    """The contenders that have a ratio of the first metric that is compared."""
    for metric in work["metrics"]:
        found = [(row["label"], row["ratios"].get(metric)) for row in work["rows"]]
        known = [(label, value) for label, value in found if value]
        if known:
            return known
    return []


def draw(place: Any, work: dict[str, Any], found: list[tuple[str, float]]) -> None:
    place.set_visible(True)
    labels, values = zip(*reversed(found), strict=True)
    colours = [COLOURS.get(label.split(",")[0], "#c7c7c7") for label in labels]
    drawn = place.barh(range(len(values)), values, color=colours)
    shown = [f"{one:,.0f}" if one >= 100 else f"{one:.3g}" for one in values]
    place.bar_label(drawn, labels=shown, padding=2, fontsize=7)
    place.set_yticks(range(len(values)), labels, fontsize=7)
    place.set_xscale("log")
    place.xaxis.set_minor_formatter(ticker.NullFormatter())
    place.xaxis.set_major_formatter("{x:g}")
    place.set_xlim(min(0.5, min(values) / 2), max(values) * 6)
    place.axvline(1, color="black", linewidth=0.6)
    place.set_title(work["title"], fontsize=8)
    place.tick_params(axis="x", labelsize=7)
    limit = "the ideal" if work["ideal"] else work["rows"][0]["label"]
    place.set_xlabel(f"times {limit}", fontsize=7)


if __name__ == "__main__":
    main()
