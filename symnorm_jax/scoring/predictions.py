"""What a fine-tuned network says of each person, beside what is true: `predictions.csv`."""

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import targets
from symnorm_jax.data.manifest import of_population
from symnorm_jax.scoring.embed import Arrays

SAME, OUTSIDE, ABNORMAL = "same", "held out", "abnormal"
POPULATIONS = (SAME, OUTSIDE, ABNORMAL)  # people like those trained on; those of data.held_out; those not healthy


def known_rows(manifest: pd.DataFrame, arrays: Arrays, config: ConfigDict) -> pd.DataFrame:
    """List the rows of what is embedded whose target is known: patient, session, split, population and target."""
    rows = manifest.loc[arrays["index"]]
    outside = of_population(manifest, config.data.held_out).loc[rows.index]
    healthy = (rows.label == "healthy") & (rows.healthy_person | (config.data.train_on != "healthy_people"))
    of = np.where(outside, OUTSIDE, np.where(healthy, SAME, ABNORMAL))
    found = rows[["patient", "session", "split"]].assign(population=of, place=np.arange(len(rows)))
    found = found.assign(target=targets.values(rows, config.target))
    return found[np.isfinite(found.target)]


def prediction_table(
    manifest: pd.DataFrame, embedded: dict[str, Arrays], training: pd.DataFrame, config: ConfigDict
) -> pd.DataFrame:
    """Give each volume of `embedded`, `{split: arrays}`, whose target is known, a row with what was `predicted`.

    A number is in its own unit, a class the probability of `target.positive`; `training` are the rows trained on.
    """
    scale, parts = targets.scale_of(training, config.target), []
    for arrays in embedded.values():
        rows = known_rows(manifest, arrays, config)
        predicted = targets.restored(arrays["predicted"][rows.place], config.target, scale)
        parts.append(rows.drop(columns="place").assign(predicted=predicted))
    return pd.concat(parts)
