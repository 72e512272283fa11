"""A run as a page: `report.html`, one file that needs no network; `MODEL_CARD.md`; and the terminal's short version."""

import base64
import re
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from symnorm_jax.data import targets
from symnorm_jax.data.manifest import group_columns
from symnorm_jax.evaluation.cases import cases_at
from symnorm_jax.evaluation.detection import POINTS
from symnorm_jax.evaluation.levels import resamples
from symnorm_jax.files import load_arrays, write_text
from symnorm_jax.report import cohort, figures, gallery, score_tables
from symnorm_jax.report.inputs import Files, read_files
from symnorm_jax.report.table import template
from symnorm_jax.report.view import views_of
from symnorm_jax.rundir import REPORT, read_config, read_metrics, taught
from symnorm_jax.settings import only_judges, shown
from symnorm_jax.systems import BUILD
from symnorm_jax.training.transfer import schedule

VIEWS = "views"  # of a run directory: where `symnorm score --output` has put pages of its people
PICTURES = ("index", "image", "map", "panel.", "brain", "lesion")


def write_report(workdir: Path, config: ConfigDict) -> None:
    """Draw `figures/`, then write `MODEL_CARD.md` and `report.html`, from the files of a finished evaluation."""
    files = read_files(workdir, config)
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    arrays = gallery.of_volumes(load_arrays(workdir / "embeddings" / "test.npz", *PICTURES))
    chosen = chosen_samples(files)
    stages = schedule(config, BUILD[config.system](config))  # none of a run that trains no network
    logs = {stage: read_metrics(workdir / stage / "metrics.jsonl") for stage in stages}
    made = curves(files)
    made |= {f"training_{stage}": figures.training(stage, lines) for stage, lines in logs.items() if lines}
    made |= {name: gallery.strips(rows, arrays) for name, rows in chosen.items() if len(rows)}
    drawn = {name: figures.save(figure, folder / f"{name}.png") for name, figure in made.items()}
    sources = {name: base64.b64encode(path.read_bytes()).decode() for name, path in drawn.items()}
    write_text(workdir / "MODEL_CARD.md", card(files))
    views = views_of(workdir / VIEWS, as_on_disk(files, chosen["gallery"]), files.table, files.headline)
    write_text(workdir / REPORT, page(files, chosen, sources, list(gallery.panels(arrays)), views))


def print_results(workdir: Path) -> None:
    """Print the main columns of every level, the notes, and where the report is."""
    files, written = read_files(workdir, read_config(workdir)), [workdir / REPORT, workdir / "MODEL_CARD.md"]
    tables = [score_tables.in_brief(files, level) for level in score_tables.levels_told(files)]
    tables += filter(None, [score_tables.prediction(files)])
    cohort.show(tables, [*files.results["notes"], *map(str, written)])


def page(
    files: Files,
    chosen: dict[str, pd.DataFrame],
    pictures: dict[str, str],
    panels: list[str],
    views: dict[str, str] | None = None,
) -> str:
    """Write the page, from samples to show, PNG files as base64 by name, the titles of the gallery's columns.

    `views` are links to pages of whole scans, by what is shown.
    """
    names = sorted(files.scores, key=lambda name: name != files.headline)
    listed = {what: gallery.listed(rows, names, files.sample.untold) for what, rows in chosen.items() if len(rows)}
    return _filled("report.html.jinja", files, listed=listed, panels=panels, pictures=pictures, views=views or {})


def card(files: Files) -> str:
    """Write the model card in Markdown, with the headings of Mitchell et al., Model Cards for Model Reporting (2019).

    Nobody's name is in it: what it says of people are counts.
    """
    program, given = "symnorm evaluate", files.overrides
    if "input" not in given:  # but a config
        changed = {f"config.{key}": value for key, value in given.items() if key != "config"}
        program, given = "python launch/train.py", {"config": given.get("config", "CONFIG")} | changed
    arguments = [shlex.quote(f"--{key}={shown(value)}") for key, value in given.items()]
    line = " ".join([program, *arguments])  # which a shell and a fence leave whole
    command = "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in line)
    return re.sub(r"\n{3,}", "\n\n", _filled("model_card.md.jinja", files, command=command))


def _filled(name: str, files: Files, **more) -> str:
    """Fill a template, which asks for the tables that it shows."""
    data = cohort.tables(files.rows, files.config.data.train_on, files.sample.noun)
    about = {"files": files, "config": files.config, "sample": files.sample, "headline": files.headline}
    about |= {"learned": targets.training_rows(files.rows, files.config), "judges": only_judges(files.config)}
    about |= {"taught": taught(files.config)}
    return template(name).render(**about, tables=score_tables, cohort={table.caption: table for table in data}, **more)


def chosen_samples(files: Files) -> dict[str, pd.DataFrame]:
    """Choose the samples to show: `gallery` by percentile, and the worst false positives and false negatives."""
    cases, fit = cases_at("sample", files.table, "test"), files.rules(files.sample.noun)[files.config.score.threshold]
    wrong = partial(gallery.failures, cases, files.headline, fit)
    typical = gallery.by_percentile(cases, files.headline)
    return {"gallery": typical, "false_positives": wrong(False), "false_negatives": wrong(True)}


def as_on_disk(files: Files, cases: pd.DataFrame) -> pd.DataFrame:
    """Keep the cases whose scans are files as they are: without people in whom a lesion was planted."""
    if not getattr(files.config.data.options, "lesion_masks", ""):
        return cases
    return cases[~cases.patient.isin(files.table.patient[files.table.lesion_mm2 > 0])]


def curves(files: Files) -> dict[str, Figure]:
    """Draw ROC, precision-recall, histograms, reliability and FROC, as far as they are defined."""
    made, score, about = {}, files.config.score, tuple(group_columns(files.rows))
    for place, level in files.levels.items():
        cases = cases_at(place, files.table, "test", score.patient, score.top_k, about)
        if cases.positive.nunique() == 2:
            names, drawn = list(files.results[level]), resamples(cases, files.config)
            both = figures.separation(cases, names, files.headline, drawn)
            made |= {f"{level}_{name}": figure for name, figure in both.items()}
        if len(cases) and level == files.sample.noun:
            for i, name in enumerate(files.scores):
                made[f"scores_{i}"] = figures.histogram(cases, name, files.thresholds[level][name], score.threshold)
        if found := files.results["calibration"][level].get("reliability"):
            made[f"{level}_reliability"] = figures.reliability(found, f"{level}s")
    if "froc" in files.results:
        found = files.results["lesion"]["map"]
        made["froc"] = figures.froc(files.results["froc"], {point: found[f"froc_{point}"] for point in POINTS})
    return made
