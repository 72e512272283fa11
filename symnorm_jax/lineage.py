"""Who was learned from before: people of a run, and copies of their scans, in the runs that it starts from."""

from functools import partial
from pathlib import Path

import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax import rundir
from symnorm_jax.data import audit, manifest, prepare, store
from symnorm_jax.hosts import on_lead
from symnorm_jax.settings import only_judges


def audit_lineage(rows: pd.DataFrame, config: ConfigDict, workdir: Path) -> None:
    """Raise LeakageError for people of a manifest whom a run before has learned from; note where nobody can know."""
    for run in rundir.lineage(config.init_from):
        if rundir.converted(run):
            on_lead(partial(rundir.note_unaudited, run, workdir))
            continue
        theirs, data = manifest.read_manifest(Path(run) / rundir.MANIFEST), rundir.read_config(Path(run)).data
        judged = only_judges(config)  # by a table, whatever the run has learned from
        same = data.source != "phantom" and (judged or data.source == config.data.source)  # all phantoms have one name
        audit.audit_source(rows, theirs, run, same)
        if judged:
            _audit_copies(rows, theirs, run, config.data)


def _audit_copies(rows: pd.DataFrame, theirs: pd.DataFrame, run: str, data: ConfigDict) -> None:
    """Raise LeakageError for copies of what a run has seen, where its prepared samples are still there."""
    seen = theirs[theirs.split.isin(("train", "val"))]
    if data.duplicate < 1 and not store.holds(data.store, seen):
        logging.warning("%s: holds no samples of %s any more; copies of its scans are not found.", data.store, run)
    elif data.duplicate < 1:
        both = pd.concat([seen.assign(patient=f"{run}: " + seen.patient), rows])
        both = both[both.split.isin(manifest.SPLITS)].reset_index(drop=True)
        audit.audit_copies(both, partial(prepare.read_scan, Path(data.store)), data.duplicate)
