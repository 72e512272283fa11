"""What of a model is fitted to healthy people: healthy maps and Gaussian, to all of them or to all but some."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.channels import MAP, channels_of
from symnorm_jax.inference.reading import Prepared
from symnorm_jax.inference.scorer import Scorer
from symnorm_jax.progress import progress
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.scoring.embed import Arrays, maps_of_scans
from symnorm_jax.scoring.scores import ABOUT, of_arrays, own
from symnorm_jax.standardise import Scan as Slices
from symnorm_jax.standardise import scans_of
from symnorm_jax.training.passes import Healthy, measured, raw_maps, scan_of

FOLDS = 10


class Cohort(NamedTuple):
    """Healthy people of one's own, N samples, and what the networks say of them."""

    made: list[Prepared]
    rows: pd.DataFrame  # N, as of validation
    held: np.ndarray  # [N, *S, C + 2]
    found: Arrays


class Fit(NamedTuple):
    """What is fitted to some of them, and what it says of all."""

    healthy: Healthy | None
    gaussian: mahalanobis.Gaussian
    found: Arrays


def out_of_fold(scorer: Scorer, cohort: Cohort) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Score everybody by a fit to the others: a table of scores, and the maps `[N, *S]` if there are any."""
    names = np.random.default_rng(scorer.model.config.seed).permutation(sorted(cohort.rows.patient.unique()))
    fold = cohort.rows.patient.map({name: place % FOLDS for place, name in enumerate(names)}).to_numpy()
    parts, maps = [], None
    for number in progress(range(FOLDS), "adapting", FOLDS):
        out = fold == number
        fit = fitted(scorer, cohort, ~out)
        scores = {name: x[out] for name, x in of_arrays(fit.found).items() if own(name)}
        far = np.asarray(mahalanobis.distance(fit.gaussian, fit.found["z"][out]))
        parts.append(cohort.rows.loc[out, list(ABOUT)].assign(**scores, mahalanobis=far))
        if MAP in fit.found:
            maps = np.zeros_like(fit.found[MAP]) if maps is None else maps
            maps[out] = fit.found[MAP][out]
    return pd.concat(parts).sort_index(), maps


def fitted(scorer: Scorer, cohort: Cohort, among: np.ndarray) -> Fit:
    """Fit healthy maps and Gaussian to the samples `among` `[N]` bool, and embed all by these maps."""
    config, (_, rows, held, found), healthy = scorer.model.config, cohort, None
    if "raw" in found:
        healthy = measured(lambda: _sweep(cohort, among, config), config)
        healthy = healthy._replace(maps={name: healthy.maps[name] for name in channels_of(config)})
        differences, of_scans = maps_of_scans(rows, found, healthy, config)
        found = found | of_scans | scorer.embedder.whole(rows, "", differences, held)
    patients = rows.patient.to_numpy()[among]
    return Fit(healthy, mahalanobis.estimate(found["z"][among], patients, config.score.shrinkage), found)


def _sweep(cohort: Cohort, among: np.ndarray, config: ConfigDict) -> Iterator[tuple[Slices, dict[str, np.ndarray]]]:
    raw, image, brain = (cohort.found[name] for name in ("raw", "image", "brain"))
    for place in scans_of(cohort.rows):
        if among[place].all():
            scan = scan_of(cohort.rows.iloc[place], brain[place])
            yield scan, raw_maps(raw[place], image[place], brain[place], config)
