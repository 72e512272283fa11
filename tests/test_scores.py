"""Scores and thresholds: nothing about the test split decides how it is judged."""

import numpy as np
import pandas as pd
import pytest
from test_thresholds import Settings

from symnorm_jax.evaluation.cases import AGGREGATES, LEVELS, cases_at
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.scoring.scores import score_names, score_table
from symnorm_jax.scoring.thresholds import fit_thresholds


def manifest_of(count, split, start=0):
    label = np.array(["healthy", "abnormal", "neither", "healthy"])[np.arange(count) % 4]
    rows = {
        "patient": [f"{split}{i // 4}" for i in range(count)],
        "session": "",
        "slice": np.arange(count),
        "position": np.linspace(0, 1, count),
        "brain_mm2": 9000.0 - np.arange(count),
        "lesion_mm2": np.where(label == "abnormal", 99.0, 0.0),
        "healthy_person": False,
        "label": label,
        "split": split,
    }
    return pd.DataFrame(rows, index=np.arange(start, start + count))


@pytest.fixture
def scored(rng):
    manifest = pd.concat([manifest_of(40, "val"), manifest_of(60, "test", start=40)])
    gaussian = mahalanobis.estimate(rng.normal(size=(200, 5)), np.arange(200).astype(str), 0.1)

    def arrays(split):
        rows = manifest[manifest.split == split]
        names = ("mse", "trivial_brightness", "trivial_fluid", "trivial_mirror")
        scores = {f"score.{name}": rng.random(len(rows)) for name in names}
        return {"index": rows.index.to_numpy(), "z": rng.normal(size=(len(rows), 5)), **scores}

    embedded = {split: arrays(split) for split in ("val", "test")}
    return manifest, embedded, gaussian


def test_the_table_has_every_score_and_baseline(scored):
    manifest, embedded, gaussian = scored
    table = score_table(manifest, embedded, gaussian)
    assert score_names(table) == ["mse", "mahalanobis", "mse+mahalanobis"]
    baselines = {
        f"trivial_{name}" for name in ("area", "brightness", "fluid", "mirror", "position", "position_and_area")
    }
    assert set(score_names(table, trivial=True)) == baselines
    expected = mahalanobis.distance(gaussian, embedded["test"]["z"])
    np.testing.assert_allclose(table[table.split == "test"].mahalanobis, expected, rtol=1e-5)


def test_the_sum_is_in_deviations_of_healthy_validation_slices(scored):
    manifest, embedded, gaussian = scored
    table = score_table(manifest, embedded, gaussian)
    healthy = table[(table.split == "val") & (table.label == "healthy")]
    parts = [(table[name] - healthy[name].mean()) / healthy[name].std() for name in ("mse", "mahalanobis")]
    np.testing.assert_allclose(table["mse+mahalanobis"], sum(parts), rtol=1e-5)


def test_the_test_split_has_no_say_in_any_score_or_threshold(scored):
    """Scores of validation, and all thresholds, are the same whatever the test split holds."""
    manifest, embedded, gaussian = scored
    other = embedded | {"test": {name: x[::-1] * (1 if name == "index" else 5) for name, x in embedded["test"].items()}}
    tables = [score_table(manifest, arrays, gaussian) for arrays in (embedded, other)]
    val = [table[table.split == "val"].sort_index() for table in tables]
    pd.testing.assert_frame_equal(*val)
    for level in LEVELS:
        for aggregate in AGGREGATES:
            cases = [cases_at(level, table, "val", aggregate) for table in tables]
            fitted = [fit_thresholds(one, score_names(tables[0]), Settings()) for one in cases]
            assert fitted[0] == fitted[1]


def test_position_baseline_is_centred_where_validation_lesions_are(scored):
    manifest, embedded, gaussian = scored
    table = score_table(manifest, embedded, gaussian)
    centre = table[(table.split == "val") & (table.label == "abnormal")].position.median()
    assert table.loc[table.trivial_position.idxmax()].position == pytest.approx(centre, abs=0.02)
