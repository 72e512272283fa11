"""What is compared: scores of finished runs, or of runs that are folds or seeds of one method, and their maps.

A folder of finished runs is one method: its measures are means over these runs, each judged on its own test people
and at its own threshold, for scores of two trainings have no unit in common. So are cross-validated areas averaged
over folds (LeDell et al., Electronic Journal of Statistics 9, 2015).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.evaluate import MapMetrics, map_metrics, read_scores
from symnorm_jax.evaluation.levels import Metrics, resamples, separations
from symnorm_jax.evaluation.pixels import OWN, TRIVIAL_MAPS
from symnorm_jax.files import read_json
from symnorm_jax.progress import progress
from symnorm_jax.rundir import CONFIG, COST, INDIFFERENT, MANIFEST, METRICS, SCORES, THRESHOLDS, converted, read_config
from symnorm_jax.scoring.embed import HIGHEST
from symnorm_jax.scoring.scores import TRIVIAL, ZERO_SHOT, own, score_names
from symnorm_jax.settings import flat
from symnorm_jax.statistics.intervals import Resamples, averaged

NEEDED = (SCORES, THRESHOLDS, METRICS, COST)
FREE = {"passes": 0, "parameters": 0, "seconds_per_sample": None}  # the cost of what passes through no network
VARIED = {"seed", "data.fold", "data.split_seed", *INDIFFERENT}  # in which runs of one method may differ
SOURCE = "init_from"  # where these differ, in their sources
Steps = tuple[str, ...] | None  # of post-processing, `evaluation.postprocess`
KEYS = ["patient", "session", "slice"]  # by which a case is known in two runs; of patients the first alone


class Part(NamedTuple):
    """What one run says of its test people."""

    run: Path
    cases: dict[str, pd.DataFrame]  # {level: test cases}, ordered by KEYS
    validation: pd.DataFrame  # cases of the first of these levels
    fits: dict[str, dict]  # {level: {score: {rule: fit}}}
    maps: dict[str, MapMetrics]  # {map: the measures of its pixels and lesions}; {} without a map or a lesion
    samples_a_patient: float  # of the test people


class Entry(NamedTuple):
    """A line of the comparison: one score of one method."""

    name: str
    path: Path  # of the method: a run, or a folder of runs
    score: str
    parts: list[Part]
    cost: dict

    def cases(self, level: str) -> pd.DataFrame:
        """Join the test cases of all parts, each once."""
        joined = pd.concat([part.cases[level] for part in self.parts])
        return joined.drop_duplicates([key for key in KEYS if key in joined])

    def separations(self, level: str, config: ConfigDict, drawn: Resamples) -> Metrics:
        """Make the measures of its cases at a level, for weights of the patients `drawn`."""
        each = []
        for part in self.parts:
            cases = part.cases[level]
            among = drawn._replace(index=np.searchsorted(drawn.patients, cases.patient))
            each.append(separations(cases, self.score, config, among, part.fits[level].get(self.score)))
        return over_parts(each)

    def of_maps(self) -> np.ndarray:
        """List the patients who have a map, in any part, `[N]`."""
        return np.concatenate([[], *(of.patients for part in self.parts for of in part.maps.values())]).astype(object)

    def of_map(self, drawn: Resamples) -> dict[str, Metrics]:
        """Make the measures `{"pixel", "lesion"}` of the map that belongs to the score; {} where a part has none."""
        each = [part.maps.get(map_of(self.score)) for part in self.parts]
        if None in each:
            return {}
        columns = [np.searchsorted(drawn.patients, one.patients) for one in each]
        return {level: over_parts([getattr(one, level) for one in each], columns) for level in ("pixel", "lesion")}

    def on_validation(self, name: Callable[[pd.DataFrame], str], config: ConfigDict) -> float:
        """Measure the validation cases of all parts by the measure that `name` names; -inf where it is undefined."""
        values = []
        for cases in (part.validation for part in self.parts if len(part.validation)):
            drawn = resamples(cases, config)
            of = separations(cases, self.score, config, drawn)[name(cases)]
            values.append(of(np.ones((1, len(drawn.patients))))[0])
        known = [value for value in values if not np.isnan(value)]
        return float(np.mean(known)) if known else -np.inf


def over_parts(each: list[Metrics], columns: list[np.ndarray] | None = None) -> Metrics:
    """Average the measures that all parts have, see `averaged`; one without a threshold, for one, has no Dice."""
    shared = [name for name in each[0] if all(name in one for one in each)]
    return {name: averaged([one[name] for one in each], columns) for name in shared}


def map_of(score: str) -> str:
    """Name the map that belongs to a score: the system's, raw or standardised, or that of a trivial score."""
    if not own(score):
        return score
    return "map" if any(name in score for name in (HIGHEST, "mahalanobis", "asymmetry")) else "raw_map"


def read_entries(methods: list[Path], level: str, steps: Steps = None) -> tuple[ConfigDict, list[Entry]]:
    """Read the config of the first run, the lines of every method, and last the first method's trivial scores.

    A method has its headline score and, where its map is standardised, that of the map. Cases are of `level` and of the
    LEVELS after it: whoever judges slices judges patients too. Maps are post-processed by `steps` or, where these are
    None, by those of each run's config. Raises RunError for runs that are not finished, methods of one name, or of
    which one has more runs than another, and a folder whose runs are not one method's; ConfigError for steps that are
    not allowed.
    """
    refuse_namesakes(methods, "--runs")
    runs = [(method, run) for method in methods for run in runs_of(method)]
    counts = {method: sum(of == method for of, _ in runs) for method in methods}
    if uneven := [method for method in methods if counts[method] != counts[methods[0]]]:
        found = f"has {counts[uneven[0]]} runs and {methods[0]} {counts[methods[0]]}"
        raise RunError(f"{uneven[0]}: {found}; methods are compared by as many trainings of each.")
    parts = {method: [] for method in methods}
    for method, run in progress(runs, "reading runs", len(runs)):
        maps = (*OWN, *TRIVIAL_MAPS) if method == methods[0] else OWN
        parts[method].append(_part(run, level, maps, steps))
    first, theirs = methods[0], parts[methods[0]]
    free = _of_level(FREE, theirs[0], level)
    names = [name for name in score_names(theirs[0].cases[level], trivial=True) if name != ZERO_SHOT]
    trivial = [Entry(name.removeprefix(TRIVIAL).replace("_", " "), first, name, theirs, free) for name in names]
    own_lines = [entry for method in methods for entry in _own_lines(method, parts[method], level)]
    return config_with(theirs[0].run, steps), own_lines + trivial


def _own_lines(method: Path, parts: list[Part], level: str) -> list[Entry]:
    headline, cost = read_config(parts[0].run).score.headline, read_json(parts[0].run / COST)
    lines = {headline: method.name}
    if HIGHEST in parts[0].cases[level]:
        lines.setdefault(HIGHEST, f"{method.name}, {HIGHEST}")
    return [Entry(name, method, score, parts, _of_level(cost, parts[0], level)) for score, name in lines.items()]


def refuse_namesakes(methods: list[Path], option: str) -> None:
    """Raise RunError for methods of one name, which a table could not tell apart; `option` is where they stand."""
    if len({method.name for method in methods}) < len(methods):
        found = ",".join(map(str, methods))
        raise RunError(f"{option}={found}: runs are told apart by their names, which must differ.")


def runs_of(method: Path) -> list[Path]:
    """List the runs of a method: one, or the folds or seeds in its folder; see `read_entries` for what is raised."""
    folds = [] if (method / CONFIG).exists() else sorted(path.parent for path in method.glob(f"*/{CONFIG}"))
    for run in folds or [method]:
        missing = [name for name in NEEDED if not (run / name).exists()]
        if missing:
            raise RunError(f"{run}: not a finished run, {missing[0]} is missing; `symnorm train` sees it through.")
    if folds:
        _refuse_strangers(method, folds)
    return folds or [method]


def _refuse_strangers(method: Path, folds: list[Path]) -> None:
    """Raise RunError unless the runs in a folder are one method's, and every fold is there or all are seeds of one."""
    first, *others = folds
    for run in others:
        if apart := _apart(first, run):
            raise RunError(
                f"{method}: {run.name} has another {apart[0]} than {first.name}; the runs in a folder are folds or "
                "seeds of one method, or named one by one."
            )
    configs = [read_config(run).data for run in folds]
    there, count = {data.fold for data in configs}, configs[0].folds
    if count and there != set(range(count)) and not (len(there) == 1 < len(folds)):
        lost = min(set(range(count)) - there)
        raise RunError(f"{method}: fold {lost} of {count} is missing, so that not everybody would be judged.")


def _apart(one: Path, other: Path) -> list[str]:
    """List the keys by which two runs are no folds or seeds of one method; the runs they start from may be such too."""
    was, now = (flat(read_config(run)) for run in (one, other))
    apart = [key for key in sorted({*was, *now} - VARIED - {SOURCE}) if was.get(key) != now.get(key)]
    sources = [Path(config[SOURCE]) for config in (was, now) if config[SOURCE]]
    kin = len(sources) == 2 and all((source / CONFIG).exists() and not converted(source) for source in sources)
    if was[SOURCE] != now[SOURCE] and not (kin and not _apart(*sources)):
        apart.append(SOURCE)
    return apart


def config_with(run: Path, steps: Steps) -> ConfigDict:
    """Read a run's config, with these steps of post-processing where they are not None."""
    config = read_config(run)
    if steps is not None:
        with config.unlocked():
            config.evaluation.postprocess = steps
    return config


def _part(run: Path, level: str, maps: tuple[str, ...], steps: Steps) -> Part:
    rows, config = read_manifest(run / MANIFEST), config_with(run, steps)
    table = read_scores(run, rows)
    grouped, fitted = table.join(rows[list(config.score.groups)]), read_json(run / THRESHOLDS)
    how = config.score.patient, config.score.top_k, config.score.groups
    found = {one: cases_at(one, grouped, "test", *how) for one in LEVELS[LEVELS.index(level) :]}
    cases = {one: of.sort_values([key for key in KEYS if key in of]) for one, of in found.items()}
    rule = config.score.threshold
    fits = {one: {score: rules[rule] for score, rules in fitted[one].items()} for one in cases}
    validation = cases_at(level, grouped, "val", *how)
    test = table[table.split == "test"]
    each = len(test) / test.patient.nunique()
    return Part(run, cases, validation, fits, map_metrics(run, table, config, maps), each)


def _of_level(cost: dict, part: Part, level: str) -> dict:
    """Give the cost of a sample or, of a patient, that of all its samples."""
    if level == "sample":
        return dict(cost)
    samples = part.samples_a_patient
    seconds, passes = cost["seconds_per_sample"], cost["passes"]
    whole = {"passes_per_patient": passes * samples, "seconds_per_patient": seconds and seconds * samples}
    return whole | {name: x for name, x in cost.items() if name not in ("seconds_per_sample", "passes")}
