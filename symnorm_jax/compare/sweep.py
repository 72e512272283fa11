"""The finished runs of a sweep in one table, the first of them as the reference."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from symnorm_jax.compare import tables
from symnorm_jax.compare.entries import KEYS
from symnorm_jax.compare.pairs import compare
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import sample_cases
from symnorm_jax.evaluation.evaluate import read_scores
from symnorm_jax.files import write_text
from symnorm_jax.report.table import Table, markdown_text
from symnorm_jax.rundir import MANIFEST

Settings = dict[str, str]  # dotted config key: value


class Point(NamedTuple):
    """A run of a sweep; its directory has the name `label`."""

    label: str
    config: str  # a file of configs/, perhaps with :tiny
    settings: Settings

    @property
    def arguments(self) -> list[str]:
        """Write the arguments of `symnorm train` that make its config."""
        return [f"--config={self.config}", *(f"--config.{key}={value}" for key, value in self.settings.items())]


def write(folder: Path, points: list[Point], finished: list[Point]) -> tuple[Table, list[str], list[Path]]:
    """Write the table to `sweep.md`, its numbers and settings to `sweep.csv`, and the paired runs to `comparison/`.

    Gives the terminal's table, a row a run and trivial score, the sentences below it, and the paths. Runs that judge
    the test cases of the first are paired with it, with p-values that Holm corrects over all rows; the others are not,
    and a sentence says so. Raises RunError where nothing is finished.
    """
    if not finished:
        raise RunError(f"{folder}: no point of the sweep is finished, so there is nothing to compare yet.")
    runs = [folder / point.label for point in finished]
    first = _judged(runs[0])
    alike = [runs[0], *(run for run in runs[1:] if _judged(run) == first)]
    compared = compare(alike)
    paths = tables.write(compared, folder / "comparison")
    alone = {run.name: compare([run])["lines"][0] for run in runs if run not in alike}
    lines = {line["name"]: line for line in compared["lines"]} | alone
    compared["lines"] = [lines[name] for name in dict.fromkeys([*(run.name for run in runs), *lines])]
    table = tables.quality(compared, tested=True)
    sentences, missing = tables.sentences(compared), [point.label for point in points if point not in finished]
    if alone:
        others = f"other test cases than {runs[0].name}, as where a seed divides people otherwise or scans are cut"
        sentences.append(f"Not paired, because they judge {others} otherwise: {', '.join(alone)}.")
    sentences += [f"Not finished: {', '.join(missing)}."] if missing else []
    write_text(folder / "sweep.md", "\n\n".join([table.markdown(), *map(markdown_text, sentences)]) + "\n")
    settings = [{"name": point.label, **{f"config.{k}": v for k, v in point.settings.items()}} for point in finished]
    numbers = pd.DataFrame(settings).merge(tables.numbers(compared), on="name", how="right")
    write_text(folder / "sweep.csv", numbers.to_csv(index=False))
    shown = table.only([*table.header[:2], "p, Holm", "verdict"])
    return shown, sentences, [folder / "sweep.md", folder / "sweep.csv", *paths]


def _judged(run: Path) -> set[tuple]:
    """The test cases of a run: labelled samples, and patients with whether they are healthy."""
    table = read_scores(run, read_manifest(run / MANIFEST))
    samples = sample_cases(table, "test")[[*KEYS, "positive"]]
    people = table[table.split == "test"].groupby("patient").healthy_person.all()
    return {*samples.itertuples(index=False, name=None), *people.items()}
