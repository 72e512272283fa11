"""What came of a downstream target, as people read it: Markdown, CSV and a figure, all from the one JSON."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from symnorm_jax.compare.tables import markdown, p_value
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.levels import plain, resamples
from symnorm_jax.evaluation.prediction import PRIMARY, measures, values_of
from symnorm_jax.files import whole, write_json, write_text
from symnorm_jax.progress import progress
from symnorm_jax.report.figures import COLOURS
from symnorm_jax.report.table import UNDEFINED, Table, number
from symnorm_jax.report.table import interval as shown
from symnorm_jax.scoring.predictions import POPULATIONS
from symnorm_jax.statistics.intervals import difference
from symnorm_jax.statistics.paired import bootstrap_p_value, holm

SHOWN = {  # the metrics of a table, that which decides first
    "number": ("mean_absolute_error", "rmse", "r2", "correlation"),
    "class": ("auroc", "accuracy", "balanced_accuracy"),
}
LOOKS = {"probe": "--", "fine-tuned": "-", "from scratch": "-.", "ruler": ":"}


class Outcome(NamedTuple):
    """What a method predicted, having learned from `patients` people, a share `fraction` of all there are."""

    method: str
    how: str  # probe, fine-tuned, from scratch, or ruler
    fraction: float
    patients: int
    tables: list[pd.DataFrame]  # one a seed, as of `predictions.prediction_table`, of test people alone


def summary(outcomes: list[Outcome], config: ConfigDict) -> list[dict]:
    """A line for each outcome and population of test people, `{"method", "how", "population", metric: values}`.

    A metric is the mean over seeds, its interval one over patients; `least` and `most` are those of the seeds in the
    metric that decides. With everybody's labels, `difference` is the
    reference minus the line in the metric that decides, on the same replicates, `p_value` that it is none, and
    `p_value_holm` the same after Holm's correction over the methods. The reference is the first outcome that is
    fine-tuned on all labels, or else the first.
    """
    lines = []
    for population in POPULATIONS:
        part = [one._replace(tables=[x[x.population == population] for x in one.tables]) for one in outcomes]
        if not len(part[0].tables[0]):
            continue
        judged = progress(part, f"judging, {population}", len(part))
        found = [_line(one, config) | {"population": population} for one in judged]
        first = reference(part)
        for line, one in zip(found, part, strict=True):
            if one.fraction == first.fraction and one is not first:
                line |= _against(first, one, config)
        compared = [line for line in found if line.get("p_value") is not None]
        for line, p in zip(compared, holm(np.array([line["p_value"] for line in compared])), strict=True):
            line["p_value_holm"] = float(p)
        lines += found
    return lines


def reference(outcomes: list[Outcome]) -> Outcome:
    """The outcome that others are compared with."""
    full = [one for one in outcomes if one.fraction == max(one.fraction for one in outcomes)]
    return next((one for one in full if one.how == "fine-tuned"), full[0])


def _line(one: Outcome, config: ConfigDict) -> dict:
    about = {"method": one.method, "how": one.how, "fraction": one.fraction, "patients": one.patients}
    tested = {"seeds": len(one.tables), "tested": int(one.tables[0].patient.nunique())}
    return about | tested | values_of(one.tables, config) | _range(one, config)


def _range(one: Outcome, config: ConfigDict) -> dict:
    """The metric that decides, of the seed that has least of it and of that which has most."""
    metric, index = PRIMARY[config.target.kind], np.unique(one.tables[0].patient, return_inverse=True)[1]
    whole_cohort = np.ones((1, index.max() + 1), np.float32)
    found = [measures([x], config.target.kind, index)[metric](whole_cohort).item() for x in one.tables]
    return {"least": min(found), "most": max(found)} if np.isfinite(found).all() else {"least": None, "most": None}


def _against(first: Outcome, other: Outcome, config: ConfigDict) -> dict:
    """The first minus another in the metric that decides. Raises RunError unless both are of the same test people."""
    who = ["patient", "target"]
    if not np.array_equal(first.tables[0][who].to_numpy(), other.tables[0][who].to_numpy()):
        raise RunError(f"{other.method}, {other.how}: its test people are not those of {first.method}, {first.how}.")
    drawn, metric = resamples(first.tables[0], config), PRIMARY[config.target.kind]
    pair = [measures(one.tables, config.target.kind, drawn.index)[metric] for one in (first, other)]
    weights = drawn.patient_weight
    p_value = bootstrap_p_value(pair[0](weights) - pair[1](weights))
    return {"difference": plain(difference(*pair, weights, kind=config.evaluation.interval)), "p_value": p_value}


def table(lines: list[dict], kind: str) -> Table:
    """The same as `frame`, for a terminal."""
    found = frame(lines, kind)
    return Table("", list(found), found.to_numpy().tolist())


def frame(lines: list[dict], kind: str) -> pd.DataFrame:
    """Everything learned from all labels, by population; the column that decides comes after the names."""
    full = max(line["fraction"] for line in lines)
    metrics = SHOWN[kind]
    rows = []
    for line in (line for line in lines if line["fraction"] == full):
        row = {"tested on": f"{line['population']}, {line['tested']}", "method": f"{line['method']}, {line['how']}"}
        row |= {metrics[0].replace("_", " "): shown(line[metrics[0]]), "by seed": _by_seed(line)}
        row |= {metric.replace("_", " "): shown(line[metric]) for metric in metrics[1:]}
        row |= {"reference minus it": shown(line.get("difference")), "p, Holm": p_value(line.get("p_value_holm"))}
        rows.append(row)
    return pd.DataFrame(rows)


def _by_seed(line: dict) -> str:
    if line["seeds"] == 1 or line["least"] is None:
        return UNDEFINED
    return f"{number(line['least'])}–{number(line['most'])}"


def fractions(lines: list[dict], kind: str, population: str) -> pd.DataFrame:
    """The metric that decides by how many people were labelled, of one population of test people."""
    rows = {}
    for line in (line for line in lines if line["population"] == population):
        column = f"{100 * line['fraction']:g} %, {line['patients']}"
        rows.setdefault(f"{line['method']}, {line['how']}", {})[column] = shown(line[PRIMARY[kind]])
    columns = sorted({column for row in rows.values() for column in row}, key=lambda name: float(name.split()[0]))
    found = pd.DataFrame.from_dict(rows, "index", columns=columns).fillna(shown(None))
    return found.rename_axis("method").reset_index()


def curve(lines: list[dict], name: str, kind: str) -> Figure:
    """The same of the first population as a picture: a line for each method, and the interval of each point."""
    figure = Figure(figsize=(8, 4.4))
    axes, metric, population = figure.subplots(), PRIMARY[kind], lines[0]["population"]
    here = [line for line in lines if line["population"] == population]
    methods = list(dict.fromkeys((line["method"], line["how"]) for line in here))
    colours = dict(zip(dict.fromkeys(method for method, _ in methods), itertools.cycle(COLOURS), strict=False))
    for place, (method, how) in enumerate(methods):
        points = {line["patients"]: line[metric] for line in here if (line["method"], line["how"]) == (method, how)}
        aside = 1 + 0.012 * (place - len(methods) / 2)  # so that bars stand beside one another
        colour, x = colours[method], [aside * people for people in sorted(points)]
        found = [points[people] for people in sorted(points)]
        axes.plot(
            x, [one["value"] for one in found], LOOKS[how], marker="o", ms=4, color=colour, label=f"{method}, {how}"
        )
        axes.vlines(x, [one["low"] for one in found], [one["high"] for one in found], color=colour, lw=0.8, alpha=0.6)
    axes.set(xscale="log", xlabel="labelled people to learn from", ylabel=f"{name}: {metric.replace('_', ' ')}")
    axes.set_xticks(ticks := sorted({line["patients"] for line in here}), labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8, handlelength=4, bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    figure.suptitle(f"{here[0]['tested']} test people of the {population} population, 95 % intervals", fontsize=9)
    return figure


def write(lines: list[dict], notes: list[str], name: str, kind: str, folder: Path) -> list[Path]:
    """Write `<name>.{json,csv,md,png}` into a folder, the sentences `notes` among them, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in ("json", "csv", "md", "png")]
    write_json(paths[0], lines)
    write_text(paths[1], pd.json_normalize(lines, sep=".").to_csv(index=False))
    parts = [*notes, markdown(frame(lines, kind))]
    for population in dict.fromkeys(line["population"] for line in lines):
        parts += [f"{name} of test people of the {population} population, by the share and number of people labelled:"]
        parts += [markdown(fractions(lines, kind, population))]
    write_text(paths[2], "\n\n".join(parts) + "\n")
    with whole(paths[3]) as partial:
        curve(lines, name, kind).savefig(partial, dpi=120, bbox_inches="tight", format="png")
    return paths
