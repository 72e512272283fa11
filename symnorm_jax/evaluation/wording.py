"""What a sample of a run is called, an axial slice or a whole volume, and what is told of it."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.cases import LEVELS
from symnorm_jax.evaluation.measures import of_level


class Sample(NamedTuple):
    """The words for a sample; `{}` in a sentence is a setting of the run."""

    noun: str  # the level of its measures
    element: str  # what an array of it is made of
    alike: str  # what those that the primary measure compares share
    confounds: str  # what is controlled for; bands of height
    neighbours: str  # why of each patient the worst sample is shown alone
    picture: str  # what is drawn of it
    neither: str  # which are not judged; the margin of a lesion
    unjudged: str  # the same among a model card's limits
    left_out: str  # what has too little brain; how many, and mm2
    untold: tuple[str, ...]  # columns that are the same for every sample

    @property
    def primary(self) -> str:
        """The measure that decides between samples."""
        return of_level(self.noun)[0].name


SLICE = Sample(
    noun="slice",
    element="pixels",
    alike=" of the same height",
    confounds="Slice position alone can tell slices apart, so the AUROC within position compares slices of {} bands of "
    "height only with their like; the adjusted one takes position and brain area out of every score.",
    neighbours=", since neighbouring slices look alike",
    picture="",
    neither="show a trace of lesion, or lie within {} of one",
    unjudged="Slices next to a lesion, or with a trace of one,",
    left_out=" {} slices with less than {:g} mm² of brain were left out.",
    untold=(),
)
VOLUME = Sample(
    noun="volume",
    element="voxels",
    alike="",
    confounds="The adjusted AUROC takes brain area, the mean over the slices of a volume, out of every score.",
    neighbours="",
    picture=" Of a volume there is the middle slice, which may miss its lesion.",
    neither="show a trace of lesion and no more",
    unjudged="Volumes with no more than a trace of lesion",
    left_out="",
    untold=("slice", "position"),
)


def sample_of(config: ConfigDict) -> Sample:
    """Give VOLUME where `data.size` has three sides, else SLICE: the one place that decides."""
    return VOLUME if len(config.data.size) == 3 else SLICE


def levels_of(table: pd.DataFrame, config: ConfigDict) -> dict[str, str]:
    """Name the LEVELS that are told of a score table: `{level: its name}`.

    Where every judged patient has one volume, labelled as the patient is, both levels are the same and one is told.
    """
    noun, judged = sample_of(config).noun, table[table.split.isin(("val", "test"))]
    people = np.where(judged.healthy_person, "healthy", "abnormal")
    same = judged.patient.is_unique and (judged.label == people).all() and config.score.patient != "calibrated"
    return {"sample": noun} if noun == "volume" and same else dict(zip(LEVELS, (noun, "patient"), strict=True))


def named(parts: dict, levels: dict[str, str]) -> dict:
    """Give what there is of each level the name that it is told by."""
    return {name: parts[level] for level, name in levels.items()}


def told(results: dict, levels: dict[str, str]) -> dict:
    """Give `metrics.json` with the names of `levels` in place of LEVELS."""
    found = {part: one for part, one in results.items() if part not in LEVELS} | named(results, levels)
    return found | {part: named(results[part], levels) for part in ("thresholds", "groups", "calibration")}
