"""The files of a finished run that its report and its model card are made from."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import group_columns, read_manifest, read_table
from symnorm_jax.evaluation.measures import Sample, levels_of, named, sample_of, told
from symnorm_jax.files import read_json
from symnorm_jax.rundir import GAUSSIAN, MANIFEST, SCORES
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.scoring.scores import score_names


class Files(NamedTuple):
    """What stands in a run directory; `cost` is empty and `controls` None where there is no such file."""

    name: str
    config: ConfigDict
    sample: Sample
    levels: dict[str, str]  # measures.levels_of
    results: dict  # metrics.json, its levels by their names
    thresholds: dict  # by the names of the levels
    cost: dict
    controls: dict | None
    environment: dict
    overrides: dict
    gaussian: dict  # mahalanobis.report
    rows: pd.DataFrame  # manifest.csv
    table: pd.DataFrame  # scores.csv, with the groups of the manifest

    @property
    def headline(self) -> str:
        """The score that the run is judged by."""
        return self.config.score.headline

    @property
    def scores(self) -> list[str]:
        """The scores of the system that are judged, without the trivial ones."""
        return [name for name in score_names(self.table) if name in self.results[self.sample.noun]]

    def rules(self, level: str) -> dict[str, dict]:
        """Give the thresholds of the headline score at a level, by rule."""
        return self.thresholds[level][self.headline]


def read_files(workdir: Path, config: ConfigDict) -> Files:
    """Read the files of an evaluated run."""
    rows = read_manifest(workdir / MANIFEST)
    table = read_table(workdir / SCORES).join(rows[group_columns(rows)])
    levels, read = levels_of(table, config), {"cost": {}, "controls": None}
    for name in ("thresholds", "environment", "overrides", "metrics", *read):
        if name not in read or (workdir / f"{name}.json").exists():
            read[name] = read_json(workdir / f"{name}.json")
    read |= {"thresholds": named(read["thresholds"], levels), "results": told(read.pop("metrics"), levels)}
    read["gaussian"] = mahalanobis.report(mahalanobis.load(workdir / GAUSSIAN))
    return Files(workdir.absolute().name, config, sample_of(config), levels, rows=rows, table=table, **read)
