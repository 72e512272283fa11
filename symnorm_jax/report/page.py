"""A run as a page: `report.html`, one file that needs no network; `MODEL_CARD.md`; and the terminal's short version."""

import base64
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import group_columns
from symnorm_jax.evaluation.cases import cases_at
from symnorm_jax.evaluation.detection import POINTS
from symnorm_jax.evaluation.levels import resamples
from symnorm_jax.files import load_arrays, write_text
from symnorm_jax.report import figures, gallery, score_tables
from symnorm_jax.report.card import card, rendered
from symnorm_jax.report.cohort import show
from symnorm_jax.report.inputs import Files, read_files
from symnorm_jax.rundir import read_config, read_metrics
from symnorm_jax.systems import BUILD
from symnorm_jax.training.transfer import schedule

PICTURES = ("index", "image", "map", "panel.", "brain", "lesion")


def write_report(workdir: Path, config: ConfigDict) -> None:
    """Draw `figures/`, then write `MODEL_CARD.md` and `report.html`, from the files of a finished evaluation."""
    files = read_files(workdir, config)
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    arrays = load_arrays(workdir / "embeddings" / "test.npz", *PICTURES)
    chosen = chosen_samples(files)
    made = curves(files) | losses(workdir, config)
    made |= {name: gallery.strips(rows, arrays) for name, rows in chosen.items() if len(rows)}
    drawn = {name: figures.save(figure, folder / f"{name}.png") for name, figure in made.items()}
    sources = {name: base64.b64encode(path.read_bytes()).decode() for name, path in drawn.items()}
    write_text(workdir / "MODEL_CARD.md", card(files))
    write_text(workdir / "report.html", page(files, chosen, sources, list(gallery.panels(arrays))))


def print_results(workdir: Path) -> None:
    """Print the main columns of every level, the notes, and where the report is."""
    files, written = read_files(workdir, read_config(workdir)), [workdir / "report.html", workdir / "MODEL_CARD.md"]
    tables = [score_tables.in_brief(files, level) for level in score_tables.levels_told(files)]
    show([*tables, *filter(None, [score_tables.prediction(files)])], [*files.results["notes"], *map(str, written)])


def page(files: Files, chosen: dict[str, pd.DataFrame], pictures: dict[str, str], panels: list[str]) -> str:
    """Write the page, from samples to show, PNG files as base64 by name, and the titles of the gallery's columns."""
    names = sorted(files.scores, key=lambda name: name != files.headline)
    listed = {what: gallery.listed(rows, names, files.sample.untold) for what, rows in chosen.items() if len(rows)}
    return rendered("report.html.jinja", files, listed=listed, panels=panels, pictures=pictures)


def chosen_samples(files: Files) -> dict[str, pd.DataFrame]:
    """Choose the samples to show: `gallery` by percentile, and the worst false positives and false negatives."""
    cases, fit = cases_at("sample", files.table, "test"), files.rules(files.sample.noun)[files.config.score.threshold]
    wrong = partial(gallery.failures, cases, files.headline, fit)
    shown = {"gallery": gallery.by_percentile(cases, files.headline)}
    return shown | {"false_positives": wrong(False), "false_negatives": wrong(True)}


def losses(workdir: Path, config: ConfigDict) -> dict[str, Figure]:
    """Draw training curves by stage; none of a run that trains no network."""
    stages = schedule(config, BUILD[config.system](config))
    logs = {stage: read_metrics(workdir / stage / "metrics.jsonl") for stage in stages}
    return {f"training_{stage}": figures.training(stage, lines) for stage, lines in logs.items() if lines}


def curves(files: Files) -> dict[str, Figure]:
    """Draw ROC, precision-recall, histograms, reliability and FROC, as far as they are defined."""
    made, score, about = {}, files.config.score, tuple(group_columns(files.rows))
    for place, level in files.levels.items():
        cases = cases_at(place, files.table, "test", score.patient, score.top_k, about)
        if cases.positive.nunique() == 2:
            drawn = figures.separation(
                cases, list(files.results[level]), files.headline, resamples(cases, files.config)
            )
            made |= {f"{level}_{name}": figure for name, figure in drawn.items()}
        if len(cases) and level == files.sample.noun:
            rules = {name: files.thresholds[level][name] for name in files.scores}
            drawn = [figures.histogram(cases, name, of, score.threshold) for name, of in rules.items()]
            made |= {f"scores_{i}": figure for i, figure in enumerate(drawn)}
        if found := files.results["calibration"][level].get("reliability"):
            made[f"{level}_reliability"] = figures.reliability(found, f"{level}s")
    if "froc" in files.results:
        found = files.results["lesion"]["map"]
        made["froc"] = figures.froc(files.results["froc"], {point: found[f"froc_{point}"] for point in POINTS})
    return made
