"""The curves of a report, one panel a picture, so that they can stand beside or below each other on any screen.

Figures belong to no window. Colours are by Okabe & Ito, which people who are colour blind can tell apart; what
matters also differs in width, dash or hatching.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symnorm_jax.evaluation.measures import label
from symnorm_jax.files import whole
from symnorm_jax.scoring.scores import own
from symnorm_jax.statistics import bands
from symnorm_jax.statistics.intervals import Resamples
from symnorm_jax.training.meter import PACE

HEALTHY, ABNORMAL = "#3b6fb6", "#c8553d"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#a6761d")
DASHES = ((4, 1.5), (1, 1), (6, 1.5, 1, 1.5), (3, 1, 1, 1, 1, 1), (8, 2), (2, 2))
SIZE = (5, 3.7)  # inches
MOST_FALSE = 10  # false positives a scan, where the FROC curve is cut off
UNIT = {"xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}
CHANCE = {"color": "0.75", "lw": 1, "zorder": 0}


def save(figure: Figure, path: Path, dpi: int = 110) -> Path:
    """Write a figure as PNG and give its path."""
    with whole(path) as partial:
        figure.savefig(partial, dpi=dpi, bbox_inches="tight", format="png")
    return path


def separation(cases: pd.DataFrame, names: list[str], headline: str, drawn: Resamples) -> dict[str, Figure]:
    """Draw `roc` and `precision_recall`, the latter in steps, as average precision reads it; grey is chance.

    The headline score has a pointwise 95 % band over patients, trivial scores are dashed.
    """
    roc, left = _panel("false-positive rate (1 − specificity)", "sensitivity", **UNIT)
    precision_recall, right = _panel("sensitivity (recall)", "precision", **UNIT)
    positive = cases.positive.to_numpy(bool)
    left.plot([0, 1], [0, 1], **CHANCE)
    right.axhline(positive.mean(), **CHANCE)
    looks = {}
    for place, name in enumerate(one for one in names if one != headline):
        dash = {"dashes": DASHES[place % len(DASHES)]} if not own(name) else {}
        looks[name] = {"lw": 0.9, "color": COLOURS[1 + place % (len(COLOURS) - 1)], **dash}
    looks[headline] = {"lw": 2.2, "color": COLOURS[0]}  # last and on top
    for name, look in looks.items():
        found = bands.counts(cases[name].to_numpy(float), positive, drawn.index, len(drawn.patients))
        fpr, tpr, precision = bands.rates(found, np.ones(len(drawn.patients)))
        left.plot(fpr, tpr, label=label(name), **look)
        right.plot(tpr[1:], precision[1:], drawstyle="steps-pre", label=label(name), **look)
    curves = (left, bands.RATES, bands.roc), (right, bands.RECALLS, bands.precision_recall)
    for axes, places, of in curves:  # `found` is that of the headline score, which comes last
        if band := bands.band(of(found, drawn.patient_weight)):
            axes.fill_between(places, *band, color=COLOURS[0], alpha=0.18, lw=0)
        _legend(axes)
    return {"roc": roc, "precision_recall": precision_recall}


def froc(found: dict, points: dict[int, dict]) -> Figure:
    """Draw sensitivity by lesion over false positives a scan; `points` `{false positives: interval}` have bars."""
    figure, axes = _panel("false positives a scan", "sensitivity by lesion", xlim=(-0.2, MOST_FALSE), ylim=UNIT["ylim"])
    axes.plot(found["curve"]["false_positives"], found["curve"]["sensitivity"], color=COLOURS[0], lw=1.8)
    read = pd.DataFrame(list(points.values()), list(points), ["value", "low", "high"], float)
    axes.plot(read.index, read.value, "o", color="black", ms=4)
    axes.vlines(read.index, read.low, read.high, color="black", lw=1)
    return figure


def histogram(cases: pd.DataFrame, name: str, rules: dict[str, dict], used: str) -> Figure:
    """Draw how a score is distributed in healthy and abnormal cases, with its thresholds, of which one is `used`."""
    figure, axes = _panel(label(name), "density", yticks=[])
    low, high = np.quantile(cases[name], (0, 0.995))
    bins = np.linspace(low, high if high > low else low + 1, 36)
    looks = {"color": HEALTHY, "alpha": 0.55}, {"color": ABNORMAL, "histtype": "step", "hatch": "////"}
    for positive, look in enumerate(looks):
        values = cases[name][cases.positive == positive].clip(upper=bins[-1])
        if len(values):
            axes.hist(values, bins, density=True, label="abnormal" if positive else "healthy", **look)
    for rule, fit in rules.items():
        if fit["value"] is not None:
            look = {"lw": 1.6, "label": f"threshold, {label(rule)}"} if rule == used else {"lw": 0.8, "ls": ":"}
            axes.axvline(fit["value"], color="0.15", **look)
    _legend(axes)
    return figure


def training(stage: str, lines: list[dict[str, float]]) -> Figure:
    """Draw the loss and its parts over the steps of a stage."""
    figure, axes = _panel("step", "")
    log = pd.DataFrame(lines).set_index("step").drop(columns=[*PACE, "gradient_norm"], errors="ignore")
    for place, metric in enumerate(log):
        look = {"dashes": DASHES[place % len(DASHES)]} if place else {}
        axes.plot(log[metric], lw=1.5, color=COLOURS[place % len(COLOURS)], label=metric, **look)
    axes.set(title=stage, yscale="log" if (log > 0).all(axis=None) else "linear")
    _legend(axes)
    return figure


def reliability(rows: list[dict], title: str) -> Figure:
    """Draw the share of abnormal cases by predicted probability, with exact binomial 95 % intervals."""
    figure, axes = _panel("predicted probability", "share of abnormal cases", title=title, **UNIT)
    axes.plot([0, 1], [0, 1], **CHANCE)
    bins = pd.DataFrame(rows)
    axes.vlines(bins.predicted, bins.low, bins.high, color=COLOURS[0], lw=1.2)
    axes.plot(bins.predicted, bins.observed, "o", color=COLOURS[0], ms=5)
    return figure


def _panel(x: str, y: str, **limits) -> tuple:
    figure = Figure(figsize=SIZE)
    axes = figure.add_subplot(ylabel=y, **limits)
    axes.set_xlabel(x, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes) -> None:
    """Below the axes, where it hides nothing."""
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
