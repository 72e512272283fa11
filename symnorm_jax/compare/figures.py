"""Figures of a comparison: what separates the methods, and what their quality costs."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from symnorm_jax.evaluation.measures import label
from symnorm_jax.report.figures import ABNORMAL, HEALTHY
from symnorm_jax.scoring.scores import own


def forest(compared: dict, title: str) -> Figure:
    """Draw the primary metric of every method, and the paired differences from the reference, with the margin."""
    lines = compared["lines"][::-1]
    figure = Figure(figsize=(11, 0.36 * len(lines) + 1.6))
    left, right = figure.subplots(1, 2, sharey=True)
    _whiskers(left, [line[compared["level"]][compared["metric"]] for line in lines])
    _whiskers(right, [line["paired"]["difference"] if "paired" in line else {"value": None} for line in lines])
    left.axvline(0.5, color="0.8", lw=1, zorder=0)
    right.axvline(0, color="0.8", lw=1, zorder=0)
    right.axvline(-compared["margin"], color=ABNORMAL, lw=1, ls="--", zorder=0)
    left.set(yticks=range(len(lines)), yticklabels=[line["name"] for line in lines], xlabel=label(compared["metric"]))
    right.set_xlabel(f"{compared['reference']} minus the other; dashed: margin of {compared['margin']:g}")
    figure.suptitle(f"{title}, 95 % intervals", fontsize=10)
    figure.tight_layout()
    return figure


def cost(compared: dict, title: str) -> Figure:
    """Draw the quality of each method against what a case costs it, and as a line the best that costs nothing."""
    level, metric = compared["level"], compared["metric"]
    figure = Figure(figsize=(9, 4.5))
    axes, spent, free = figure.subplots(), [], []
    for line in compared["lines"]:
        found, of = line[level][metric], line["cost"]
        seconds = of.get("seconds_per_patient", of.get("seconds_per_sample"))
        if own(line["score"]) and seconds:
            spent.append((1000 * seconds, line["name"], found))
        elif found["value"] is not None:
            free.append((found["value"], line["name"]))
    for number, (ms, name, found) in enumerate(sorted(spent, key=lambda one: one[:2]), 1):
        axes.errorbar(ms, *_bars(found), fmt="o", color=HEALTHY, lw=1, label=f"{number}  {name}")
        side = 6 if number // 2 % 2 else -6 * (1 + len(str(number)))  # methods may lie close together
        axes.annotate(str(number), (ms, found["value"]), (side, 2), textcoords="offset points", fontsize=8)
    if free:
        best, name = max(free)
        axes.axhline(best, color=ABNORMAL, lw=1, ls="--", label=f"{name}, without a network")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False, markerscale=0)
    axes.set(xscale="log", xlabel=f"milliseconds a {compared['case']}", ylabel=label(metric), xmargin=0.2)
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # more would be written over each other
    for of in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        of("{x:g}")
    axes.set_title(f"{title}, 95 % intervals", fontsize=9)
    figure.tight_layout()
    return figure


def _whiskers(axes, values: list[dict]) -> None:
    found = pd.DataFrame(values, columns=["value", "low", "high"], dtype=float)
    axes.plot(found.value, found.index, "o", color=HEALTHY)
    axes.hlines(found.index, found.low, found.high, color=HEALTHY, lw=1.5)


def _bars(found: dict) -> tuple[float, list[list[float]] | None]:
    """Give a value and what its interval reaches below and above it."""
    if found["low"] is None:
        return found["value"], None
    return found["value"], [[found["value"] - found["low"]], [found["high"] - found["value"]]]
