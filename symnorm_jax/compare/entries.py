"""What a comparison is made of: one score each of finished runs, with the cases it judges, before they are paired."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.evaluate import pixel_histograms, read_scores
from symnorm_jax.files import read_json
from symnorm_jax.progress import progress
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring.scores import TRIVIAL, ZERO_SHOT, own, score_names

KEYS = ["patient", "session", "slice"]  # by which a case is known in two runs; of patients the first alone
NEEDED = ("scores.csv", "metrics.json", "cost.json")
FREE = {"passes": 0, "parameters": 0, "seconds_per_sample": None}  # the cost of what passes through no network
APART = {
    "sample": "a case of patient {} stands in one of them alone, or with another label; their patients are the same, "
    "and --level=patient would pair them",
    "patient": "patient {} stands in one of them alone, or with other labels; only runs that judge the same people can "
    "be paired",
}
Pixels = tuple[np.ndarray, np.ndarray]  # patients [P] and histograms [P, 2, bins], see `maps.pixel_histograms`


class Entry(NamedTuple):
    """A line of the comparison: one score of one run."""

    name: str
    run: Path
    score: str
    cases: dict[str, pd.DataFrame]  # {level: test cases}, ordered by KEYS
    validation: pd.DataFrame  # cases of the first of these levels
    cost: dict
    pixels: Pixels | None  # of its map, where there is one and lesions are drawn


def read_entries(runs: list[Path], level: str) -> tuple[ConfigDict, list[Entry]]:
    """Read the config of the first run, the headline scores of all runs, and last the first run's trivial scores.

    Cases are those of `level`, one of LEVELS, and of the levels after it: whoever judges slices judges patients too.
    Raises RunError for runs that are not finished, or of one name.
    """
    if len({run.name for run in runs}) < len(runs):
        raise RunError(f"--runs={','.join(map(str, runs))}: runs are told apart by their names, which must differ.")
    for run in runs:
        missing = [name for name in NEEDED if not (run / name).exists()]
        if missing:
            raise RunError(f"{run}: not a finished run, {missing[0]} is missing; see it through with launch/train.py.")
    entries, each = [], [(run, read_scores(run, read_manifest(run / "manifest.csv")), read_config(run)) for run in runs]
    maps = [pixel_histograms(*one) for one in progress(each, "reading maps", len(each))]
    for of, found in zip(each, maps, strict=True):
        entries.append(_entry(of[0].name, of[2].score.headline, level, *of, found.get("map")))
    for score in (one for one in score_names(each[0][1], trivial=True) if one != ZERO_SHOT):
        name = score.removeprefix(TRIVIAL).replace("_", " ")
        entries.append(_entry(name, score, level, *each[0], maps[0].get(score)))
    return each[0][2], entries


def refuse_other_cases(first: Entry, other: Entry) -> None:
    """Raise RunError unless both judge the same cases, slices and patients or patients alone, with the same labels."""
    for level in tuple(first.cases)[::-1]:  # patients first: they make the plainer sentence
        known = [key for key in (*KEYS, "positive") if key in first.cases[level]]
        ours, theirs = (set(one.cases[level][known].itertuples(index=False, name=None)) for one in (first, other))
        if ours != theirs:
            who = min(ours ^ theirs)[0]
            raise RunError(f"{other.run}: its test {level}s are not those of {first.run}: {APART[level].format(who)}.")


def _entry(
    name: str, score: str, level: str, run: Path, table: pd.DataFrame, config: ConfigDict, pixels: Pixels | None
) -> Entry:
    how = config.score.patient, config.score.top_k
    found = {one: cases_at(one, table, "test", *how) for one in LEVELS[LEVELS.index(level) :]}
    cases = {one: of.sort_values([key for key in KEYS if key in of]) for one, of in found.items()}
    cost = read_json(run / "cost.json") if own(score) else dict(FREE)
    if level == "patient":  # all of whose samples are embedded
        test = table[table.split == "test"]
        samples, seconds = len(test) / test.patient.nunique(), cost.pop("seconds_per_sample")
        whole = {"passes_per_patient": cost.pop("passes") * samples}
        cost = whole | {"seconds_per_patient": None if seconds is None else seconds * samples} | cost
    return Entry(name, run, score, cases, cases_at(level, table, "val", *how), cost, pixels)
