"""Labelled people whom a finished run judges: the config of the run that does so, in which nothing is fitted."""

from pathlib import Path

from ml_collections import ConfigDict

from symnorm_jax.inference.reading import columns_of
from symnorm_jax.rundir import read_config
from symnorm_jax.settings import ALL_TEST, target_of

JUDGING = {"data.source": "table", "data.split": ALL_TEST, "data.folds": 0, "data.fold": 0, "data.held_out": ""}
JUDGING |= {"finetune.kind": "none", "finetune.patients": 0, "score.thresholds": "source", "train.profile": ""}


def config_of(run: Path, table: Path, brain: str | None) -> ConfigDict:
    """Make the config by which `run` judges the people of the manifest `table`: its own, with them alone, all in test.

    Brain masks come from `brain`, or from where they came from in the run. Raises RunError where there is no run.
    """
    config = read_config(run)
    channel, brain = columns_of(config), brain or config.data.brain
    changes = JUDGING | {"init_from": str(run), "data.root": str(table), "data.brain": brain}
    changes |= {"target.column": None} if target_of(config) else {}  # so that what the run was taught is refused
    with config.unlocked():
        config.data.options = ConfigDict({"channel": channel})
        config.update_from_flattened_dict(changes)
    return config
