"""A run as a page: `report.html`, one file that needs no network; `MODEL_CARD.md`; and the terminal's short version."""

import base64
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from symnorm_jax.data.manifest import group_columns
from symnorm_jax.evaluation.cases import cases_at
from symnorm_jax.evaluation.detection import POINTS
from symnorm_jax.evaluation.levels import resamples
from symnorm_jax.files import load_arrays, write_text
from symnorm_jax.report import decisions, figures, gallery, inputs, score_tables
from symnorm_jax.report.card import card
from symnorm_jax.report.inputs import Files, read_files
from symnorm_jax.report.table import Table, cell, interval, rendered
from symnorm_jax.rundir import read_config, read_metrics
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.scores import score_names
from symnorm_jax.scoring.thresholds import threshold_of
from symnorm_jax.settings import target_of
from symnorm_jax.systems import BUILD
from symnorm_jax.training.transfer import schedule

PICTURES = ("index", "image", "map", "panel.", "brain", "lesion")
TERMINAL = {  # the metrics of each level that fit on a screen
    "slice": ("auroc_within_position", "auroc", "average_precision"),
    "volume": ("auroc", "average_precision", "accuracy"),
    "patient": ("auroc", "average_precision", "accuracy"),
    "pixel": ("average_precision", "auroc", "dice"),
    "lesion": ("froc_mean", "sensitivity", "false_positives"),
}


def write_report(workdir: Path, config: ConfigDict) -> None:
    """Draw `figures/`, then write `MODEL_CARD.md` and `report.html`, from the files of a finished evaluation."""
    files = read_files(workdir, config)
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    arrays = load_arrays(workdir / "embeddings" / "test.npz", *PICTURES)
    shown = chosen(files)
    made = curves(files) | galleries(shown, arrays) | losses(workdir, config)
    drawn = {name: figures.save(figure, folder / f"{name}.png") for name, figure in made.items()}
    sources = {name: base64.b64encode(path.read_bytes()).decode() for name, path in drawn.items()}
    write_text(workdir / "MODEL_CARD.md", card(files))
    write_text(workdir / "report.html", page(files, shown, sources, list(gallery.panels(arrays))))


def page(files: Files, shown: dict[str, pd.DataFrame], pictures: dict[str, str], panels: list[str]) -> str:
    """The page, from a run's files, the slices to show, PNG files as base64 by name, and the gallery's columns."""
    results, config, headline = files.results, files.config, files.config.score.headline
    levels, noun, used = tuple(files.levels.values()), files.sample.noun, config.score.threshold
    fitted = {level: files.thresholds[level][headline] for level in levels}
    names = [headline, *(name for name in own(files) if name != headline)]
    listed = {
        what: gallery.listed(rows, names, what).without(*files.sample.untold)
        for what, rows in shown.items()
        if len(rows)
    }
    return rendered(
        "report.html.jinja",
        files=files,
        config=config,
        sample=files.sample,
        levels=levels,
        verdict=inputs.verdict(files),
        summary=score_tables.summary(results, files.cost, headline, files.sample),
        prediction=score_tables.prediction(results, target_of(config)),
        full={level: score_tables.full(results, level, headline) for level in told_levels(files)},
        differences=score_tables.differences(results, headline, config.evaluation.margin, files.sample),
        listed=listed,
        panels=panels,
        scores={f"scores_{place}": score_tables.label(name) for place, name in enumerate(own(files))},
        pictures=pictures,
        cards=[decisions.thresholds(fitted[x], results["thresholds"][x], used, x) for x in levels],
        by_group=[decisions.by_group(fitted[level][used], level) for level in levels],
        threshold=fitted[noun][used]["value"],
        calibration=decisions.calibration(results, levels),
        groups=score_tables.groups(results),
        steps=score_tables.steps(results),
        controls=None if files.controls is None else decisions.controls(files.controls),
        counts=inputs.counts(files.rows, noun),
        trained_on=inputs.trained_on(files.rows, config),
        midline=inputs.midline(files.rows),
        left_out=inputs.left_out(files.rows),
        exclusions=files.rows[files.rows.split == "excluded"][["patient", "exclusion"]].to_dict("records"),
    )


def chosen(files: Files) -> dict[str, pd.DataFrame]:
    """The samples to show: `gallery` by percentile, `false_positives` and `false_negatives` of the threshold in use."""
    cases, headline = cases_at("sample", files.table, "test"), files.config.score.headline
    fit = files.thresholds[files.sample.noun][headline][files.config.score.threshold]
    wrong = partial(gallery.failures, cases, headline, threshold_of(fit, cases))
    return {
        "gallery": gallery.by_percentile(cases, headline),
        "false_positives": wrong(False),
        "false_negatives": wrong(True),
    }


def told_levels(files: Files) -> list[str]:
    """The levels that have tables of scores, cases first."""
    return [level for level in (*files.levels.values(), "pixel", "lesion") if level in files.results]


def own(files: Files) -> list[str]:
    """The scores of the system, without the trivial ones."""
    return [name for name in score_names(files.table) if name in files.results[files.sample.noun]]


def galleries(shown: dict[str, pd.DataFrame], arrays: Arrays) -> dict[str, Figure]:
    """A figure for each choice that holds a sample."""
    return {name: gallery.strips(rows, arrays) for name, rows in shown.items() if len(rows)}


def losses(workdir: Path, config: ConfigDict) -> dict[str, Figure]:
    """Training curves by stage; none of a run that trains no network."""
    stages = schedule(config, BUILD[config.system](config))
    logs = {stage: read_metrics(workdir / stage / "metrics.jsonl") for stage in stages}
    return {f"training_{stage}": figures.training(stage, lines) for stage, lines in logs.items() if lines}


def curves(files: Files) -> dict[str, Figure]:
    """ROC, precision-recall, histograms, reliability and FROC, as far as they are defined."""
    made, config = {}, files.config
    for level, name in files.levels.items():
        about = tuple(group_columns(files.rows))
        cases = cases_at(level, files.table, "test", config.score.patient, config.score.top_k, about)
        made |= _of_level(files, name, cases)
    if "froc" in files.results:
        found = files.results["lesion"]["map"]
        points = {str(point): found[f"froc_{point}"] for point in POINTS}
        made["froc"] = figures.froc(files.results["froc"], points)
    return made


def print_results(workdir: Path) -> None:
    """The main columns of every level, the notes, and where the report is, on the terminal."""
    config, console = read_config(workdir), Console()
    files = read_files(workdir, config)
    results = files.results
    for level in told_levels(files):
        _print_table(console, result_table(results, level))
    _print_table(console, score_tables.prediction(results, target_of(config)))
    for note in results["notes"]:
        console.print(Text(note), soft_wrap=True)
    for name in ("report.html", "MODEL_CARD.md"):
        console.print(Text(f"{workdir / name}"), soft_wrap=True)


def _print_table(console: Console, found: Table | None) -> None:
    """Print a table; nothing where there is none, or no row in it."""
    if found is None or not found.rows:
        return
    drawn = Drawn(*found.header, title=found.caption)
    for row in found.rows:
        drawn.add_row(*(Text(cell(one)) for one in row))
    console.print(drawn)


def result_table(results: dict, level: str) -> Table:
    """The TERMINAL columns of a level; rows in which none of them is defined are left out."""
    columns = TERMINAL[level]
    rows = [
        [score_tables.label(name), *(interval(found.get(metric)) for metric in columns)]
        for name, found in results[level].items()
        if any((found.get(metric) or {}).get("value") is not None for metric in columns)
    ]
    return Table(f"{level} level, test split", ["score", *map(score_tables.label, columns)], rows)


def _of_level(files: Files, level: str, cases: pd.DataFrame) -> dict[str, Figure]:
    config, made = files.config, {}
    if cases.positive.nunique() == 2:
        about = list(files.results[level]), config.score.headline, resamples(cases, config)
        made[f"{level}_roc"] = figures.roc(cases, *about)
        made[f"{level}_precision_recall"] = figures.precision_recall(cases, *about)
    if len(cases) and level == files.sample.noun:
        for place, name in enumerate(own(files)):
            rules = files.thresholds[level][name]
            made[f"scores_{place}"] = figures.histogram(cases, name, rules, config.score.threshold)
    found = files.results["calibration"][level].get("reliability")
    return made | ({f"{level}_reliability": figures.reliability(found, f"{level}s")} if found else {})
