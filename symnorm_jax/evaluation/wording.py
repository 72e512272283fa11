"""What a sample of a run is called, an axial slice or a whole volume, and what is told of it.

A volume has the one position that all others have, so what compares samples within their position says nothing new.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.cases import LEVELS
from symnorm_jax.evaluation.levels import WITHIN


class Sample(NamedTuple):
    """The words for a sample; `{}` in a sentence is a setting of the run."""

    noun: str
    element: str  # what an array of it is made of
    primary: str  # the metric that decides between samples
    alike: str  # what those that it compares share
    confounds: str  # what is controlled for; bands of height
    neighbours: str  # why of each patient the worst sample is shown alone
    picture: str  # what is drawn of it
    neither: str  # which are not judged; the margin of a lesion
    unjudged: str  # the same among a model card's limits
    left_out: str  # what has too little brain; how many, and mm2
    metrics: dict[str, str | None] = {}  # metrics that are told under another name, or not at all
    untold: tuple[str, ...] = ()  # what is the same for every sample


SLICE = Sample(
    noun="slice",
    element="pixels",
    primary=WITHIN,
    alike=" of the same height",
    confounds="Slice position alone can tell slices apart, so the AUROC within position compares slices of {} bands of "
    "height only with their like; the adjusted one takes position and brain area out of every score.",
    neighbours=", since neighbouring slices look alike",
    picture="",
    neither="show a trace of lesion, or lie within {} of one",
    unjudged="Slices next to a lesion, or with a trace of one,",
    left_out=" {} slices with less than {:g} mm² of brain were left out.",
)
VOLUME = Sample(
    noun="volume",
    element="voxels",
    primary="auroc",
    alike="",
    confounds="The adjusted AUROC takes brain area, the mean over the slices of a volume, out of every score.",
    neighbours="",
    picture=" Of a volume there is the middle slice, which may miss its lesion.",
    neither="show a trace of lesion and no more",
    unjudged="Volumes with no more than a trace of lesion",
    left_out="",
    metrics={"auroc_within_area": None, "auroc_adjusted": "auroc_adjusted_for_area"},
    untold=("slice", "position"),
)


def sample_of(config: ConfigDict) -> Sample:
    """SLICE, or VOLUME where `data.size` has three sides: the one place that decides."""
    return VOLUME if len(config.data.size) == 3 else SLICE


def levels_of(table: pd.DataFrame, config: ConfigDict) -> dict[str, str]:
    """`{level: its name}` of the LEVELS that are told of a score table.

    Where every judged patient has one volume, labelled as the patient is, both levels are the same and one is told.
    """
    noun = sample_of(config).noun
    names = dict(zip(LEVELS, (noun, "patient"), strict=True))
    return {"sample": noun} if noun == "volume" and _one_each(table, config) else names


def named(parts: dict, levels: dict[str, str]) -> dict:
    """What there is of each level, by the name that it is told by."""
    return {name: parts[level] for level, name in levels.items()}


def told(results: dict, levels: dict[str, str], sample: Sample) -> dict:
    """`metrics.json` under the names of `levels` and of the metrics of a `sample`."""
    found = {part: one for part, one in results.items() if part not in LEVELS} | named(results, levels)
    found |= {part: named(results[part], levels) for part in ("thresholds", "groups", "calibration")}
    found[sample.noun] = {score: _renamed(of, sample) for score, of in found[sample.noun].items()}
    found["groups"][sample.noun] = {
        column: {group: _renamed(of, sample) for group, of in groups.items()}
        for column, groups in found["groups"][sample.noun].items()
    }
    return found


def _renamed(metrics: dict, sample: Sample) -> dict:
    """Metrics as they are told; those within the only position are the plain ones, and take their names."""
    plain = {name.replace(WITHIN, sample.primary): of for name, of in metrics.items()}
    return {sample.metrics.get(name, name): of for name, of in plain.items() if sample.metrics.get(name, name)}


def _one_each(table: pd.DataFrame, config: ConfigDict) -> bool:
    judged = table[table.split.isin(("val", "test"))]
    people = np.where(judged.healthy_person, "healthy", "abnormal")
    return bool(judged.patient.is_unique and (judged.label == people).all() and config.score.patient != "calibrated")
