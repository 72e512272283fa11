"""What the report page and the model card share: their templates, and what both say of a run."""

from pathlib import Path

import jinja2

from symnorm_jax.data import targets
from symnorm_jax.evaluation.measures import label
from symnorm_jax.report import cohort, decisions, score_tables
from symnorm_jax.report.inputs import Files
from symnorm_jax.report.table import cell_text, markdown_text
from symnorm_jax.scoring.scores import TRIVIAL


def rendered(name: str, files: Files, **more) -> str:
    """Fill the template `name` of this folder; text is escaped for HTML, and a missing name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["markdown"] = markdown_text
    results, config, noun, used = files.results, files.config, files.sample.noun, files.config.score.threshold
    learned = targets.training_rows(files.rows, config)
    return environment.get_template(name).render(
        files=files,
        config=config,
        sample=files.sample,
        verdict=verdict(files),
        summary=score_tables.summary(results, files.cost, config.score.headline, files.sample),
        prediction=score_tables.prediction(results, config.target),
        thresholds={x: decisions.thresholds(of, results["thresholds"][x], used, x) for x, of in files.headline.items()},
        calibration=decisions.calibration(results, files.headline),
        groups=score_tables.groups(results),
        cohort={table.caption: table for table in cohort.tables(files.rows, config.data.train_on, noun)},
        trained_on=f"{len(learned):,} {noun}s of {learned.patient.nunique():,} people",
        controls=None if files.controls is None else decisions.controls(files.controls),
        **more,
    )


def verdict(files: Files) -> str:
    """Say in one sentence how the headline score does beside the best trivial score."""
    headline, sample = files.config.score.headline, files.sample
    best = score_tables.best_trivial(files.results, sample)
    found = files.results[sample.noun].get(headline, {}).get(sample.primary)
    if best is None or not found or found["value"] is None:
        return f"How well {label(headline)} tells {sample.noun}s apart is undefined on this test split."
    return (
        f"{label(headline)} tells abnormal from healthy {sample.noun}s{sample.alike} with an AUROC of "
        f"{cell_text(found)}; of the trivial scores {label(best[0].removeprefix(TRIVIAL))} does best here, with "
        f"{cell_text(best[1])}."
    )
