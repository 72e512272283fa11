"""What came of a downstream target, as people read it: Markdown, CSV and a figure, all from the one JSON."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from symnorm_jax.compare.pairs import correct, tested
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.levels import resamples
from symnorm_jax.evaluation.measures import label, of_level
from symnorm_jax.evaluation.prediction import POPULATIONS, PRIMARY, measures, values_of
from symnorm_jax.files import write_json, write_text
from symnorm_jax.progress import progress
from symnorm_jax.report.figures import COLOURS, save
from symnorm_jax.report.table import Table, number, p_value
from symnorm_jax.statistics.intervals import as_json

LOOKS = {"probe": "--", "fine-tuned": "-", "from scratch": "-.", "ruler": ":"}


class Outcome(NamedTuple):
    """What a method predicted, having learned from `patients` people, a share `fraction` of all there are."""

    method: str
    how: str  # probe, fine-tuned, from scratch, or ruler
    fraction: float
    patients: int
    tables: list[pd.DataFrame]  # one a seed, as of `predictions.prediction_table`, of test people alone


def summary(outcomes: list[Outcome], config: ConfigDict) -> list[dict]:
    """Judge each outcome in each population of test people, `{"method", "how", "population", metric: values}` each.

    A metric is the mean over seeds, its interval one over patients; `least` and `most` are of the seeds, in the metric
    that decides. With everybody's labels, `difference` is the reference minus the line in that metric, on the same
    replicates, `p_value` that it is none, and `p_value_holm` after Holm's correction over the methods. The reference is
    the first outcome that is fine-tuned on all labels, or else the first of these.
    """
    lines = []
    for population in POPULATIONS:
        part = [one._replace(tables=[x[x.population == population] for x in one.tables]) for one in outcomes]
        if not len(part[0].tables[0]):
            continue
        judged = progress(part, f"judging, {population}", len(part))
        found = [_line(one, config) | {"population": population} for one in judged]
        first = max(part, key=lambda one: (one.fraction, one.how == "fine-tuned"))  # of equals the first
        for line, one in zip(found, part, strict=True):
            if one.fraction == first.fraction and one is not first:
                line |= _against(first, one, config)
        correct([line for line in found if "p_value" in line])
        lines += found
    return lines


def _line(one: Outcome, config: ConfigDict) -> dict:
    about = {"method": one.method, "how": one.how, "fraction": one.fraction, "patients": one.patients}
    about |= {"seeds": len(one.tables), "tested": int(one.tables[0].patient.nunique())}
    kind, index = config.target.kind, np.unique(one.tables[0].patient, return_inverse=True)[1]
    everybody = np.ones((1, index.max() + 1), np.float32)
    seeds = [measures([x], kind, index)[PRIMARY[kind]](everybody).item() for x in one.tables]
    least, most = (min(seeds), max(seeds)) if np.isfinite(seeds).all() else (None, None)
    return about | values_of(one.tables, config) | {"least": least, "most": most}


def _against(first: Outcome, other: Outcome, config: ConfigDict) -> dict:
    """The first minus another in the metric that decides. Raises RunError unless both are of the same test people."""
    ours, theirs = (one.tables[0][["patient", "target"]].to_numpy() for one in (first, other))
    if not np.array_equal(ours, theirs):
        raise RunError(f"{other.method}, {other.how}: its test people are not those of {first.method}, {first.how}.")
    drawn, metric = resamples(first.tables[0], config), PRIMARY[config.target.kind]
    pair = [measures(one.tables, config.target.kind, drawn.index)[metric] for one in (first, other)]
    gap, p = tested(*pair, drawn, config)
    return {"difference": as_json(gap), "p_value": p}


def table(lines: list[dict], kind: str) -> Table:
    """Give everything learned from all labels, by population; the measure that decides comes after the names."""
    first, *others = of_level(kind)
    everybody, rows = max(line["fraction"] for line in lines), []
    for line in (line for line in lines if line["fraction"] == everybody):
        spread = line["seeds"] > 1 and line["least"] is not None
        seeds = f"{number(line['least'])}–{number(line['most'])}" if spread else None
        about = [f"{line['population']}, {line['tested']}", f"{line['method']}, {line['how']}", line[first.name], seeds]
        gap = [line.get("difference"), p_value(line.get("p_value_holm"))]
        rows.append([*about, *(line[one.name] for one in others), *gap])
    header = ["tested on", "method", first.label, "by seed", *(one.label for one in others)]
    return Table("Learned from all labels", [*header, "reference minus it", "p, Holm"], rows)


def fractions(lines: list[dict], name: str, kind: str, population: str) -> Table:
    """Give the measure that decides by how many people were labelled, in one population of test people."""
    shares, found = {}, {}
    for line in (line for line in lines if line["population"] == population):
        shares[line["fraction"]] = f"{100 * line['fraction']:g} %, {line['patients']}"
        found.setdefault(f"{line['method']}, {line['how']}", {})[line["fraction"]] = line[PRIMARY[kind]]
    rows = [[method, *map(of.get, sorted(shares))] for method, of in found.items()]
    caption = f"{name} of test people of the {population} population, by the share and number of people labelled"
    return Table(caption, ["method", *(shares[share] for share in sorted(shares))], rows)


def curve(lines: list[dict], name: str, kind: str) -> Figure:
    """Draw the same of the first population: a line for each method, and the interval of each point."""
    figure = Figure(figsize=(8, 4.4))
    axes, metric, population = figure.subplots(), PRIMARY[kind], lines[0]["population"]
    here, methods, colours = [line for line in lines if line["population"] == population], {}, {}
    for line in here:
        methods.setdefault((line["method"], line["how"]), []).append(line)
        colours.setdefault(line["method"], COLOURS[len(colours) % len(COLOURS)])
    for place, ((method, how), points) in enumerate(methods.items()):
        points.sort(key=lambda line: line["patients"])
        aside = 1 + 0.012 * (place - len(methods) / 2)  # so that bars stand beside one another
        x, look = [aside * line["patients"] for line in points], {"color": colours[method]}
        values, lows, highs = ([line[metric][bound] for line in points] for bound in ("value", "low", "high"))
        axes.plot(x, values, LOOKS[how], marker="o", ms=4, label=f"{method}, {how}", **look)
        axes.vlines(x, lows, highs, lw=0.8, alpha=0.6, **look)
    axes.set(xscale="log", xlabel="labelled people to learn from", ylabel=f"{name}: {label(metric)}")
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
    by_share = [fractions(lines, name, kind, one) for one in dict.fromkeys(line["population"] for line in lines)]
    shares = [f"{one.caption}:\n\n{one.markdown()}" for one in by_share]
    write_text(paths[2], "\n\n".join([*notes, table(lines, kind).markdown(), *shares]) + "\n")
    save(curve(lines, name, kind), paths[3], dpi=120)
    return paths
