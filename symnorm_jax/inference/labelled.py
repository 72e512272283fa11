"""Labelled people whom a finished run judges: the config of the run that does so, and what is doubted of them."""

from pathlib import Path

import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax.data import store
from symnorm_jax.data.manifest import group_columns, read_manifest, read_table
from symnorm_jax.errors import RunError
from symnorm_jax.files import write_text
from symnorm_jax.inference import quality
from symnorm_jax.inference.model import WEIGHTS
from symnorm_jax.inference.reading import columns_of
from symnorm_jax.inference.told import About
from symnorm_jax.run import Run
from symnorm_jax.rundir import DOUBTS, MANIFEST, SCORES, read_config
from symnorm_jax.settings import ALL_TEST, target_of

JUDGING = {"data.source": "table", "data.split": ALL_TEST, "data.folds": 0, "data.fold": 0, "data.held_out": ""}
JUDGING |= {"finetune.kind": "none", "finetune.patients": 0, "score.thresholds": "source", "train.profile": ""}


class Judging(Run):
    """A run in which nothing is fitted. It lists what is doubted of its people, and judges them all the same."""

    def evaluate(self, anew: bool = False) -> None:
        """Write `doubts.csv`, where it can be asked, and take the step."""
        source = Path(self.config.init_from)
        data, theirs = read_config(source).data, read_manifest(source / MANIFEST)
        if not store.holds(data.store, theirs):
            logging.warning("%s: holds no samples of %s any more; doubts are not asked.", data.store, source)
        elif not (self.workdir / DOUBTS).exists():
            write_text(self.workdir / DOUBTS, doubts(self.manifest, self.workdir, source).to_csv(index_label="index"))
        super().evaluate(anew)


def config_of(run: Path, table: Path, brain: str | None) -> ConfigDict:
    """Make the config by which `run` judges the people of the manifest `table`: its own, with them alone, all in test.

    Brain masks come from `brain`, or from where they came from in the run. Raises RunError where there is no run.
    """
    if (run / WEIGHTS).exists():
        raise RunError(f"--run={run}: is a model, exported or adapted; people are judged by the run directory alone.")
    config = read_config(run)
    channel, brain = columns_of(config), brain or config.data.brain
    changes = JUDGING | {"init_from": str(run), "data.root": str(table), "data.brain": brain}
    changes |= {"target.column": None} if target_of(config) else {}  # so that what the run was taught is refused
    with config.unlocked():
        config.data.options = ConfigDict({"channel": channel})
        config.update_from_flattened_dict(changes)
    return config


def doubts(rows: pd.DataFrame, workdir: Path, source: Path) -> pd.DataFrame:
    """List the test scans of a manifest, each with the kinds of `doubts` and the `reasons` why it would not be called.

    Ranges are those of the run `source`, scores those of `workdir`.
    """
    config, table, found = read_config(source), read_table(workdir / SCORES), []
    reference = quality.reference(read_manifest(source / MANIFEST), read_table(source / SCORES), config)
    for _, own in rows[rows.split == "test"].groupby("store", sort=False):
        one = own.iloc[0]
        about = About(one.source, one[group_columns(rows)].to_dict(), one.brain)
        unlike = quality.asked(quality.of_rows(own, config), about, config, reference)[1]
        unlike |= quality.whole(table.loc[own.index], config, reference)
        person = one[["patient", "session", "healthy_person"]].to_dict()
        found.append(person | {"doubts": " ".join(unlike), "reasons": "; ".join(unlike.values())})
    return pd.DataFrame(found)
