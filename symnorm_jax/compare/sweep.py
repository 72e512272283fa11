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
from symnorm_jax.report.table import UNDEFINED, Table, plain

Settings = dict[str, str]  # dotted config key: value


class Point(NamedTuple):
    """A run of a sweep; its directory has the name `label`."""

    label: str
    config: str  # a file of configs/, perhaps with :tiny
    settings: Settings

    @property
    def arguments(self) -> list[str]:
        """The flags of launch/train.py that make its config."""
        return [f"--config={self.config}", *(f"--config.{key}={value}" for key, value in self.settings.items())]


def write(folder: Path, points: list[Point], finished: list[Point]) -> tuple[Table, list[str], list[Path]]:
    """Write the table to `sweep.md`, its numbers and settings to `sweep.csv`, and the paired runs to `comparison/`.

    Gives the table for a terminal, one line a run and one a trivial score, the sentences below it, and the paths.
    Runs that judge the test cases of the first are paired with it, with p-values that Holm corrects over them and the
    baselines; the others stand without, and a sentence says so. Raises RunError where nothing is finished.
    """
    if not finished:
        raise RunError(f"{folder}: no point of the sweep is finished, so there is nothing to compare yet.")
    runs = [folder / point.label for point in finished]
    first, *rest = map(judged, runs)
    alike = [runs[0], *(run for run, cases in zip(runs[1:], rest, strict=True) if cases == first)]
    compared = compare(alike)
    paths = tables.write(compared, folder / "comparison")
    alone = [compare([run])["lines"][0] for run in runs if run not in alike]
    lines = {line["name"]: line for line in compared["lines"] + alone}
    order = [run.name for run in runs] + [name for name in lines if name not in {run.name for run in runs}]
    compared["lines"] = [lines[name] for name in order]
    table = swept(compared)
    sentences = [*_sentences(compared, alone), *_missing(points, finished)]
    page = [tables.markdown(table), *(plain(sentence) for sentence in sentences)]
    write_text(folder / "sweep.md", "\n\n".join(page) + "\n")
    write_text(folder / "sweep.csv", numbers(compared, finished).to_csv(index=False))
    brief = table[[name for name in table if name.startswith(("method", "AUROC within", "p, Holm", "verdict"))]]
    shown = Table("", list(brief), brief.to_numpy().tolist())
    return shown, sentences, [folder / "sweep.md", folder / "sweep.csv", *paths]


def swept(compared: dict) -> pd.DataFrame:
    """The table of `comparison_tables`, with the corrected p-value and the verdict beside each difference."""
    table = tables.quality_table(compared)
    pairs = [line.get("paired") for line in compared["lines"]]
    if any(pairs):
        place = list(table).index(f"{compared['reference']} minus it") + 1
        p_values = [tables.p_value(pair["p_value_holm"]) if pair else UNDEFINED for pair in pairs]
        table.insert(place, "p, Holm", p_values)
        table.insert(place + 1, "verdict", [pair["verdict"] if pair else UNDEFINED for pair in pairs])
    return table


def numbers(compared: dict, finished: list[Point]) -> pd.DataFrame:
    """What `tables.numbers` gives, after a column for each setting of a point."""
    settings = [{"name": point.label, **{f"config.{k}": v for k, v in point.settings.items()}} for point in finished]
    return pd.DataFrame(settings).merge(tables.numbers(compared), on="name", how="right")


def judged(run: Path) -> set[tuple]:
    """The test cases of a run: labelled slices, and patients with whether they are healthy."""
    table = read_scores(run, read_manifest(run / "manifest.csv"))
    slices = sample_cases(table, "test")[[*KEYS, "positive"]]
    people = table[table.split == "test"].groupby("patient").healthy_person.all()
    return {*slices.itertuples(index=False, name=None), *people.items()}


def _sentences(compared: dict, alone: list[dict]) -> list[str]:
    said = [
        f"{compared['samples']} test slices of {compared['patients']} patients; 95 % intervals from a bootstrap over "
        f"patients; differences are {compared['reference']} minus the other."
    ]
    if compared["best_on_validation"]:
        said.append(f"* is the best rival on validation: {compared['best_on_validation']}.")
    if alone:
        said.append(
            f"Not paired, because they judge other test slices or patients than {compared['reference']}, as where a "
            f"seed divides people otherwise or slices are cut otherwise: {', '.join(line['name'] for line in alone)}."
        )
    return said


def _missing(points: list[Point], finished: list[Point]) -> list[str]:
    missing = [point.label for point in points if point not in finished]
    return [f"Not finished: {', '.join(missing)}."] if missing else []
