"""A run as a model card: `MODEL_CARD.md`, with the headings of Mitchell et al., Model Cards for Model Reporting (2019).

Nobody's name is in it: what it says of people are counts.
"""

import re
import shlex

from symnorm_jax.report import decisions, inputs, score_tables
from symnorm_jax.report.inputs import Files
from symnorm_jax.report.table import rendered
from symnorm_jax.settings import target_of


def card(files: Files) -> str:
    """The card in Markdown, about a hundred lines where there are few groups of people."""
    results, config, headline = files.results, files.config, files.config.score.headline
    levels, used = tuple(files.levels.values()), config.score.threshold
    fitted = {level: files.thresholds[level][headline] for level in levels}
    written = rendered(
        "model_card.md.jinja",
        files=files,
        config=config,
        sample=files.sample,
        verdict=inputs.verdict(files),
        summary=score_tables.summary(results, files.cost, headline, files.sample),
        prediction=score_tables.prediction(results, target_of(config)),
        thresholds={x: decisions.thresholds(fitted[x], results["thresholds"][x], used, x) for x in levels},
        calibration=decisions.calibration(results, levels),
        groups=[one for one in score_tables.groups(results) if one.defined],
        controls=None if files.controls is None else decisions.controls_in_brief(files.controls),
        counts=inputs.counts(files.rows, files.sample.noun),
        trained_on=inputs.trained_on(files.rows, config),
        midline=inputs.midline(files.rows),
        excluded=int((files.rows.split == "excluded").sum()),
        seconds=score_tables.expense(headline, files.cost)[1],
        command=command(files.overrides),
    )
    return re.sub(r"\n{3,}", "\n\n", written)


def command(overrides: dict) -> str:
    """The command that begins such a run, with what was overridden: one line that a shell and a fence leave whole."""
    changed = {key: value for key, value in overrides.items() if key != "config"}
    given = [f"--config={overrides.get('config', 'CONFIG')}"]
    given += [f"--config.{key}={shown(value)}" for key, value in changed.items()]
    line = " ".join(["python launch/train.py", *map(shlex.quote, given)])
    return "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in line)


def shown(value) -> str:
    """A setting as it is written on a command line; None is an empty text."""
    return "" if value is None else str(tuple(value)) if isinstance(value, list) else str(value)
