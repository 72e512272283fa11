"""A run as a model card: `MODEL_CARD.md`, with the headings of Mitchell et al., Model Cards for Model Reporting (2019).

Nobody's name is in it: what it says of people are counts.
"""

import re
import shlex

from symnorm_jax.data import targets
from symnorm_jax.report import cohort, decisions, score_tables
from symnorm_jax.report.inputs import Files
from symnorm_jax.report.table import template


def card(files: Files) -> str:
    """Write the card in Markdown, about a hundred lines where there are few groups of people."""
    return re.sub(r"\n{3,}", "\n\n", rendered("model_card.md.jinja", files, command=command(files.overrides)))


def rendered(name: str, files: Files, **more) -> str:
    """Fill a template, which asks for the tables that it shows."""
    data = cohort.tables(files.rows, files.config.data.train_on, files.sample.noun)
    about = {"files": files, "config": files.config, "sample": files.sample, "headline": files.headline}
    about |= {"learned": targets.training_rows(files.rows, files.config)}
    about |= {"tables": score_tables, "decisions": decisions, "cohort": {table.caption: table for table in data}}
    return template(name).render(**about, **more)


def command(overrides: dict) -> str:
    """Write the command that begins such a run, on one line that a shell and a fence leave whole."""
    changed = {key: value for key, value in overrides.items() if key != "config"}
    given = [f"--config={overrides.get('config', 'CONFIG')}"]
    given += [f"--config.{key}={shown(value)}" for key, value in changed.items()]
    line = " ".join(["python launch/train.py", *map(shlex.quote, given)])
    return "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in line)


def shown(value) -> str:
    """Write a setting as on a command line; None is an empty text."""
    return "" if value is None else str(tuple(value)) if isinstance(value, list) else str(value)
