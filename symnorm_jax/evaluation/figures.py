"""The pictures of a report. Every function gives a Matplotlib figure that belongs to no window."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from symnorm_jax.data.geometry import picture
from symnorm_jax.scoring.embed import Arrays

HEALTHY, ABNORMAL = "#3b6fb6", "#c8553d"
PACE = ["steps_per_second", "waited", "gradient_norm"]  # logged, and not drawn


def save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=110, bbox_inches="tight")
    return path


def roc(cases: pd.DataFrame, names: list[str], baseline: str) -> Figure:
    """ROC curves of slices; baselines, whose names begin with `baseline`, are dashed."""
    figure = Figure(figsize=(5.2, 5))
    axes = figure.add_subplot(xlabel="1 - specificity", ylabel="sensitivity", title="Slices of the test split")
    if cases.positive.nunique() < 2:
        axes.text(0.5, 0.55, "undefined: one class only", ha="center")
        names = []
    for name in names:
        fpr, tpr, _ = roc_curve(cases.positive, cases[name])
        axes.plot(fpr, tpr, "--" if name.startswith(baseline) else "-", lw=1.5, label=name.replace("_", " "))
    axes.plot([0, 1], [0, 1], color="0.8", lw=1, zorder=0)
    if names:
        axes.legend(fontsize=8, frameon=False)
    axes.set_aspect("equal")
    return figure


def histograms(cases: pd.DataFrame, names: list[str], thresholds: dict, rule: str) -> Figure:
    """Distribution of each score in healthy and abnormal slices, with the threshold from validation."""
    figure = Figure(figsize=(3.4 * len(names), 2.8))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        bins = np.linspace(*np.quantile(cases[name], (0, 0.995)), 40)
        for positive, colour, label in ((False, HEALTHY, "healthy"), (True, ABNORMAL, "abnormal")):
            values = cases[name][cases.positive == positive].clip(upper=bins[-1])
            if len(values):
                axes.hist(values, bins, density=True, alpha=0.6, color=colour, label=label)
        if thresholds[name][rule]["value"] is not None:
            axes.axvline(thresholds[name][rule]["value"], color="0.2", lw=1, label=f"threshold ({rule})")
        axes.set(title=name, yticks=[])
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def training(logs: dict[str, list[dict[str, float]]]) -> Figure:
    """Loss and its parts over the steps of each stage."""
    figure = Figure(figsize=(4.6 * len(logs), 2.8))
    for axes, (stage, lines) in zip(figure.subplots(1, len(logs), squeeze=False)[0], logs.items(), strict=True):
        log = pd.DataFrame(lines).set_index("step").drop(columns=PACE, errors="ignore")
        for metric in log:
            axes.plot(log[metric], lw=1.5, label=metric)
        axes.set(title=stage, xlabel="step", yscale="log")
        axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def gallery(chosen: pd.DataFrame, arrays: Arrays, headline: str) -> Figure:
    """Each chosen slice with what the system made of it, its difference map, and the truth."""
    place = pd.Series(np.arange(len(arrays["index"])), arrays["index"])
    panels = {name.removeprefix("panel."): arrays[name] for name in arrays if name.startswith("panel.")}
    columns = {"slice": arrays["image"]} | panels
    if "map" in arrays:
        columns["difference map"] = arrays["map"]
        strongest = float(np.quantile(arrays["map"][arrays["brain"]].astype(np.float32), 0.999))
    columns["truth"] = arrays["image"]
    figure = Figure(figsize=(1.9 * len(columns), 2.05 * len(chosen)))
    grid = figure.subplots(len(chosen), len(columns), squeeze=False)
    for line, (index, case) in zip(grid, chosen.iterrows(), strict=True):
        first = index == chosen.index[0]
        for axes, (title, images) in zip(line, columns.items(), strict=True):
            look = (
                {"cmap": "gray", "vmax": 1.2} if title != "difference map" else {"cmap": "inferno", "vmax": strongest}
            )
            axes.imshow(picture(images[place[index]].astype(np.float32)), interpolation="nearest", vmin=0, **look)
            if title == "truth" and arrays["lesion"][place[index]].any():
                axes.contour(picture(arrays["lesion"][place[index]]), [0.5], colors=[ABNORMAL], linewidths=1)
            axes.set(xticks=[], yticks=[], title=title if first else "")
        kind = "abnormal" if case.positive else "healthy"
        line[0].set_ylabel(f"{kind}, {case.told}\n{headline} {case[headline]:.1f}", fontsize=8)
    figure.tight_layout()
    return figure
