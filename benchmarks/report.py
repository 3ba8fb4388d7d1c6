"""Medians, ratios and goals: as a dictionary for JSON, and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.contest import Result
from benchmarks.work import Goal, Work


def median(result: Result, metric: str) -> float | None:
    found = [measures[metric] for measures in result.measures if metric in measures]
    return statistics.median(found) if found else None


def base_of(
    work: Work, results: Sequence[Result], variant: str | None, metric: str
) -> float | None:
    """What a metric is compared to: the ideal, or the median of the limit's variant."""
    if work.ideal is not None:
        return work.ideal(work.sizes).get(metric)
    limit = work.entries[0]
    wanted = limit.variant if variant is None else variant
    for result in results:
        if (result.entry.contender, result.entry.variant) == (limit.contender, wanted):
            return median(result, metric)
    return None


def ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


# -- goals ----------------------------------------------------------------------------------------


def reached(work: Work, goal: Goal, results: Sequence[Result]) -> float | None:
    """What pocoflow reached of a goal."""
    ours = next(
        (
            one
            for one in results
            if one.entry.label.startswith("pocoflow") and one.entry.variant == goal.variant
        ),
        None,
    )
    if ours is None:
        return None
    value = median(ours, goal.metric)
    if goal.kind == "value" or value is None:
        return value
    if goal.to:
        return ratio(value, median(ours, goal.to))
    base = base_of(work, results, goal.base, goal.metric)
    if goal.kind == "difference":
        return None if base is None else value - base
    return ratio(value, base)


def goals(work: Work, results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    for goal in work.goals:
        found = reached(work, goal, results)
        yield {
            "what": goal.what,
            "work": work.name,
            "metric": goal.metric,
            "most": goal.most,
            "kind": goal.kind,
            "reached": found,
            "met": None if found is None else found <= goal.most,
        }


# -- JSON -----------------------------------------------------------------------------------------


def as_dict(work: Work, results: Sequence[Result]) -> dict[str, Any]:
    rows = []
    for result in results:
        ratios = {}
        for metric in work.metrics:
            if metric.compared:
                base = base_of(work, results, result.entry.base, metric.name)
                ratios[metric.name] = ratio(median(result, metric.name), base)
        rows.append(
            {
                "contender": result.entry.contender.removeprefix("by_"),
                "label": result.entry.label,
                "variant": result.entry.variant,
                "failure": result.failure,
                "rounds": result.measures,
                "medians": {m.name: median(result, m.name) for m in work.metrics},
                "ratios": ratios,
                "fsyncs": result.fsyncs,
                "versions": result.versions,
            }
        )
    return {
        "name": work.name,
        "title": work.title,
        "what": work.what,
        "sizes": dict(work.sizes),
        "synchronous": work.synchronous,
        "metrics": [metric.name for metric in work.metrics],
        "ideal": work.ideal(work.sizes) if work.ideal else None,
        "rows": rows,
        "goals": list(goals(work, results)),
    }


# -- Markdown -------------------------------------------------------------------------------------


def table(work: Work, results: Sequence[Result]) -> Iterator[str]:
    counted = any(result.fsyncs is not None for result in results)
    heads, rules = ["contender"], ["---"]
    for metric in work.metrics:
        heads.append(metric.title)
        if metric.compared:
            heads += ["lowest to highest", "ratio"] if metric is work.metrics[0] else ["ratio"]
    if counted:
        heads.append("fsyncs per step" if work.counted_per_one else "fsyncs")
    heads.append("rounds")
    rules += ["---:"] * (len(heads) - 1)
    yield f"\n## {work.title}\n"
    sizes = ", ".join(f"{name} {size:,}" for name, size in work.sizes.items())
    yield f"`{work.name}`: {work.what}{' (' + sizes + ')' if sizes else ''}\n"
    yield row(heads)
    yield row(rules)
    if work.ideal is not None:
        yield row(ideal_cells(work, counted))
    for result in results:
        yield row(cells(work, result, results, counted))
    yield from failures(results)


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def ideal_cells(work: Work, counted: bool) -> list[str]:
    assert work.ideal is not None
    found = work.ideal(work.sizes)
    cells = ["ideal"]
    for metric in work.metrics:
        value = found.get(metric.name)
        cells.append("" if value is None else f"{value:.{metric.digits}f}")
        if metric.compared:
            cells += ["", "1.00"] if metric is work.metrics[0] else [""]
    return cells + [""] * (1 + counted)


def cells(work: Work, result: Result, results: Sequence[Result], counted: bool) -> list[str]:
    found = [result.entry.label]
    for metric in work.metrics:
        value = median(result, metric.name)
        found.append("" if value is None else f"{value:.{metric.digits}f}")
        if not metric.compared:
            continue
        if metric is work.metrics[0]:
            each = [one[metric.name] for one in result.measures]
            low_high = (
                (f"{one:.{metric.digits}f}" for one in (min(each), max(each))) if each else ()
            )
            found.append(" to ".join(low_high))
        base = base_of(work, results, result.entry.base, metric.name)
        compared = ratio(value, base)
        found.append("" if compared is None else f"{compared:.2f}")
    if counted:
        found.append("" if result.fsyncs is None else f"{result.fsyncs:.2f}")
    return [*found, str(len(result.measures)) if result.measures else "none, see below"]


def failures(results: Sequence[Result]) -> Iterator[str]:
    told = [result for result in results if result.failure]
    if told:
        yield ""
    for result in told:
        yield f"- {result.entry.label}: {result.failure}"


def table_of_goals(all_goals: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "\n## Goals\n"
    yield row(["goal", "work", "at most", "reached", ""])
    yield row(["---", "---", "---:", "---:", "---"])
    for goal in all_goals:
        found = goal["reached"]
        verdict = {True: "met", False: "**missed**", None: "not measured"}[goal["met"]]
        sign = "+" if goal["kind"] == "difference" else ""
        times = "x" if goal["kind"] == "ratio" else ""
        bound = f"{goal['most']:{sign}g}{times}"
        shown = "" if found is None else f"{found:{sign}.2f}{times}"
        yield row([goal["what"], goal["work"], bound, shown, verdict])
