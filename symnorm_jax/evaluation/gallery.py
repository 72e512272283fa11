"""The slices that a report shows: by percentile of a score, and where its threshold went most wrong."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symnorm_jax.data.geometry import picture
from symnorm_jax.evaluation.figures import ABNORMAL
from symnorm_jax.evaluation.templates import Table, number
from symnorm_jax.scoring.embed import Arrays

PERCENTILES = (5, 50, 95)
FAILURES = 4  # patients of whom the worst slice is shown
PANEL = 1.45  # inches


def by_percentile(cases: pd.DataFrame, name: str) -> pd.DataFrame:
    """The abnormal, then the healthy slices nearest to PERCENTILES of their score; a column `shown` says which."""
    parts = []
    for positive, kind in ((True, "abnormal"), (False, "healthy")):
        ordered = cases[cases.positive == positive].sort_values(name, kind="stable")
        if len(ordered):
            places = [round(percentile / 100 * (len(ordered) - 1)) for percentile in PERCENTILES]
            parts.append(ordered.iloc[places].assign(shown=[f"{kind}, {p}th" for p in PERCENTILES]))
    return pd.concat(parts) if parts else cases.assign(shown="")


def failures(cases: pd.DataFrame, name: str, threshold: np.ndarray, positive: bool) -> pd.DataFrame:
    """Slices on the wrong side of their threshold `[N]`, furthest first: missed if `positive`, else called in error.

    Neighbouring slices look alike, so of each patient only the worst is kept, and of patients the worst FAILURES.
    """
    limit = pd.Series(threshold, cases.index)
    excess = cases[name] - limit
    wrong = (cases.positive == positive) & ((excess < 0) if positive else (excess >= 0))
    far = excess[wrong].abs().sort_values(ascending=False, kind="stable")
    found = cases.loc[far.index].drop_duplicates("patient").head(FAILURES)
    shown = [str(place) for place in range(1, len(found) + 1)]
    return found.assign(shown=shown, threshold=limit.loc[found.index])


def strips(chosen: pd.DataFrame, arrays: Arrays) -> Figure:
    """A line for each chosen slice: the slice, what the system made of it, its difference map, and the truth."""
    columns = panels(arrays)
    place = pd.Series(np.arange(len(arrays["index"])), arrays["index"])
    brightest = _strongest(arrays)
    figure = Figure(figsize=(PANEL * len(columns), PANEL * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), len(columns), squeeze=False)
    for line, (index, case) in zip(grid, chosen.iterrows(), strict=True):
        for axes, (title, images) in zip(line, columns.items(), strict=True):
            _draw(axes, title, images[place[index]], brightest)
            if title == "truth" and arrays["lesion"][place[index]].any():
                axes.contour(picture(arrays["lesion"][place[index]]), [0.5], colors=[ABNORMAL], linewidths=1.2)
        line[0].set_ylabel(case.shown.replace(", ", "\n"), fontsize=9)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def panels(arrays: Arrays) -> dict[str, np.ndarray]:
    """The columns of `strips` by title, `[N, X, Y]` each."""
    made = {name.removeprefix("panel."): arrays[name] for name in arrays if name.startswith("panel.")}
    maps = {"difference map": arrays["map"]} if "map" in arrays else {}
    return {"slice": arrays["image"]} | made | maps | {"truth": arrays["image"]}


def listed(chosen: pd.DataFrame, names: list[str], caption: str) -> Table:
    """Who is shown: patient, slice, position, lesion and scores, with the threshold of a failure."""
    about = ["patient", "slice", "position", "lesion, mm²"]
    named = [*(["threshold"] if "threshold" in chosen else []), *names]
    rows = [
        [case.shown, case.patient, str(int(case.slice)), number(case.position), f"{case.lesion_mm2:.0f}"]
        + [f"{case[name]:.4g}" for name in named]
        for _, case in chosen.iterrows()
    ]
    return Table(caption, ["shown", *about, *(name.replace("_", " ") for name in named)], rows)


def _draw(axes, title: str, image: np.ndarray, brightest: float) -> None:
    look = {"cmap": "gray", "vmax": 1.2} if title != "difference map" else {"cmap": "inferno", "vmax": brightest}
    axes.imshow(picture(image.astype(np.float32)), interpolation="nearest", vmin=0, **look)
    axes.set(xticks=[], yticks=[])


def _strongest(arrays: Arrays) -> float:
    within = arrays["map"][arrays["brain"]].astype(np.float32) if "map" in arrays else np.zeros(0)
    return max(float(np.quantile(within, 0.999)), 1e-6) if len(within) else 1.0
