"""A run as a page: `report.html`, one file that needs no network, and the same table for the terminal."""

import base64
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from symnorm_jax.data import manifest
from symnorm_jax.evaluation import figures
from symnorm_jax.evaluation.cases import slice_cases
from symnorm_jax.files import load_arrays, read_json, write_text
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.scoring.scores import BASELINE, score_names
from symnorm_jax.systems import BUILD
from symnorm_jax.training.runlog import read_metrics
from symnorm_jax.training.transfer import schedule

COLUMNS = {
    "slice": ("auroc_within_position", "auroc", "average_precision", "accuracy", "sensitivity", "specificity"),
    "patient": ("auroc", "average_precision", "accuracy", "sensitivity", "specificity"),
    "pixel": ("average_precision",),
}
UNDEFINED = "–"


def write_report(workdir: Path, config: ConfigDict) -> None:
    """Draw `figures/` and write `report.html` from the files of a finished evaluation."""
    table = manifest.read_table(workdir / "scores.csv")
    results, thresholds = read_json(workdir / "metrics.json"), read_json(workdir / "thresholds.json")
    rows = manifest.read_manifest(workdir / "manifest.csv")
    drawn = _draw(workdir, config, table, thresholds)
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("report.html.jinja").read_text()
    )
    html = page.render(
        name=workdir.name,
        config=config,
        tables={level: result_table(results, level) for level in COLUMNS if level in results},
        gaps=_gaps(results["slice"][config.score.headline]),
        prevalence=results["slice"][config.score.headline]["prevalence"]["value"],
        thresholds=thresholds["slice"][config.score.headline],
        counts=_counts(rows),
        midline=_midline(rows),
        exclusions=rows[rows.split == "excluded"][["patient", "exclusion"]].to_dict("records"),
        left_out=int(rows[rows.split != "excluded"].drop_duplicates("store").slices_left_out.sum()),
        gaussian=mahalanobis.report(mahalanobis.load(workdir / "gaussian.npz")),
        environment=read_json(workdir / "environment.json"),
        overrides=read_json(workdir / "overrides.json"),
        figures={name: base64.b64encode(path.read_bytes()).decode() for name, path in drawn.items()},
    )
    write_text(workdir / "report.html", html)


def result_table(results: dict, level: str) -> list[list[str]]:
    """Header and rows of one level's results, as text; a value stands before its 95 % interval.

    Rows in which nothing is defined are left out: at patient level all of them, where everybody is diseased.
    """
    body = [
        [name.replace("_", " "), *(_cell(found.get(metric)) for metric in COLUMNS[level])]
        for name, found in results[level].items()
    ]
    defined = [row for row in body if set(row[1:]) != {UNDEFINED}]
    return [["score", *(metric.replace("_", " ") for metric in COLUMNS[level])], *defined]


def print_results(workdir: Path) -> None:
    """The result tables, and where the report is, on the terminal."""
    results, console = read_json(workdir / "metrics.json"), Console()
    for level in results:
        header, *body = result_table(results, level)
        if not body:
            continue
        shown = Table(*header[:4], title=f"{level} level, test split")
        for row in body:
            shown.add_row(*row[:4])
        console.print(shown)
    console.print(f"report: {workdir / 'report.html'}", soft_wrap=True)


def _cell(found: dict | None) -> str:
    if not found or found["value"] is None:
        return UNDEFINED
    bounds = "" if found["low"] is None else f" ({found['low']:.3f}–{found['high']:.3f})"
    return f"{found['value']:.3f}{bounds}"


def _gaps(found: dict) -> list[tuple[str, str]]:
    """Paired differences of the headline score from each baseline, as text."""
    return [
        (metric.split("_minus_")[1].replace("_", " "), _cell(value))
        for metric, value in found.items()
        if "_minus_" in metric
    ]


def _counts(rows: pd.DataFrame) -> list[list]:
    """Patients and slices of each label by split, with a header."""
    labels = ["healthy", "abnormal", "neither", manifest.UNLABELLED]
    body = [
        [split, part.patient.nunique(), *(int((part.label == label).sum()) for label in labels)]
        for split, part in ((split, rows[rows.split == split]) for split in (*manifest.SPLITS, manifest.UNLABELLED))
        if len(part)
    ]
    return [["split", "patients", *(f"{label} slices" for label in labels)], *body]


def _midline(rows: pd.DataFrame) -> str:
    """What was taken out of the scans, and how many were flagged."""
    scans = rows[rows.split != "excluded"].drop_duplicates("store")
    tilt = np.hypot(scans.roll, scans.yaw)
    return (
        f"; tilt {tilt.median():.1f} degrees at the median and {tilt.max():.1f} at most, likeness to the mirror image "
        f"{scans.mirror_similarity.median():.3f}; {int((scans.flag != '').sum())} of {len(scans)} scans flagged"
    )


def _draw(workdir: Path, config: ConfigDict, table: pd.DataFrame, thresholds: dict) -> dict[str, Path]:
    """Every figure, by name, as a PNG file."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    cases, headline = slice_cases(table, "test"), config.score.headline
    names = score_names(table) + score_names(table, baselines=True)
    logs = {
        stage: read_metrics(workdir / stage / "metrics.jsonl")
        for stage in schedule(config, BUILD[config.system](config))
    }
    chosen = _gallery_rows(cases, headline)
    arrays = load_arrays(workdir / "embeddings" / "test.npz")
    made = {
        "roc": figures.roc(cases, names, BASELINE),
        "scores": figures.histograms(cases, score_names(table), thresholds["slice"], config.score.threshold),
        "gallery": figures.gallery(chosen, arrays, headline),
    }
    made |= {"training": figures.training(logs)} if logs else {}  # of a run that trains no network, nothing to draw
    return {name: figures.save(figure, folder / f"{name}.png") for name, figure in made.items()}


def _gallery_rows(cases: pd.DataFrame, headline: str) -> pd.DataFrame:
    """The best, median and worst told slice of each class, by the headline score."""
    parts = []
    for positive, names in ((True, ("best", "median", "worst")), (False, ("worst", "median", "best"))):
        ordered = cases[cases.positive == positive].sort_values(headline, ascending=False)
        if len(ordered):
            places = [0, len(ordered) // 2, len(ordered) - 1]
            parts.append(ordered.iloc[places].assign(told=names))
    return pd.concat(parts)
