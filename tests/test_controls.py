"""Controls: labels by lot earn nothing, and what is remembered of a patient shows only where a split leaks."""

import json
import zlib

import numpy as np
import pandas as pd
import pytest
from test_report import write_run

from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation import controls
from symnorm_jax.evaluation.evaluate import read_scores
from symnorm_jax.files import load_arrays, save_arrays
from symnorm_jax.rundir import write_config


def with_embeddings(folder, embed, **changes):
    """A run whose embeddings `embed(rows)` are `[N, D]`, and its config."""
    config = write_run(folder, **{"score.headline": "mse", "score.groups": (), "score.shrinkage": "0.5", **changes})
    write_config(folder, json.loads(config.to_json()))
    rows = read_manifest(folder / "manifest.csv")
    for split in ("train", "val", "test"):
        part, path = rows[rows.split == split], folder / "embeddings" / f"{split}.npz"
        arrays = load_arrays(path) if path.exists() else {"index": part.index.to_numpy()}
        save_arrays(path, arrays | {"z": embed(part).astype(np.float32)})
    return config


def who(rows):
    """Embeddings that tell nothing but the patient, and a little noise."""
    names = np.unique(rows.patient, return_inverse=True)
    code = np.stack([np.random.default_rng(zlib.crc32(name.encode())).normal(size=8) for name in names[0]])
    return code[names[1]] + 0.01 * np.random.default_rng(0).normal(size=(len(rows), 8))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls") / "run"
    return folder, with_embeddings(folder, who)


def test_labels_by_lot_have_an_area_of_one_half_even_where_patients_differ(rng):
    names = np.repeat([f"p{i}" for i in range(15)], 12)
    cases = pd.DataFrame({"patient": names, "mse": np.repeat(rng.normal(size=15), 12) + 0.1 * rng.normal(size=180)})
    found = controls.shuffled(cases, "mse", seed=0, repeats=400)
    assert abs(found["auroc"]["value"] - 0.5) < 4 * found["error"]
    assert found["auroc"]["low"] < 0.3 and found["auroc"]["high"] > 0.7  # patients, not slices, are what is drawn


def test_only_folds_of_slices_learn_what_a_lot_has_drawn(run):
    folder, config = run
    found = controls.leak(folder, read_scores(folder, read_manifest(folder / "manifest.csv")), config)
    by_lot = {one["split"]: one["auroc"]["value"] for one in found if one["labels"] == "shuffled"}
    assert by_lot["slice"] > 0.99 and by_lot["patient"] < 0.75


def test_the_gaussian_gains_from_slices_of_test_patients(run):
    folder, config = run
    found = controls.gaussian(folder, read_scores(folder, read_manifest(folder / "manifest.csv")), config)
    values = {one["split"]: one["auroc"]["value"] for one in found}
    gap = values["slice minus patient"]
    assert gap == pytest.approx(values["slice"] - values["patient"], abs=2e-6)


def test_every_control_is_told_in_a_sentence(run):
    folder, config = run
    found = controls.controls(folder, config)
    assert len(found["notes"]) == 3 and "as it must be" in found["notes"][0]
    json.dumps(found)


def test_where_everybody_has_one_volume_no_split_can_part_them(tmp_path):
    config = with_embeddings(tmp_path / "run", who, volumes=True, maps=False)
    found = controls.controls(tmp_path / "run", config)
    assert found.keys() == {"shuffled", "gaussian", "notes"}
    assert [one["split"] for one in found["gaussian"]] == ["patient", "volume", "volume minus patient"]
    assert "no split can part the volumes" in found["notes"][1] and "slice" not in " ".join(found["notes"])


def test_an_evaluation_to_doubt_is_called_so():
    about = {"auroc": {"value": 0.6}, "error": 0.001}
    leak = [
        {"labels": x, "split": y, "auroc": {"value": None}} for x in ("true", "shuffled") for y in ("patient", "slice")
    ]
    assert "doubt the evaluation" in controls._notes({"shuffled": about, "leak": leak}, "slice")[0]


def test_a_test_split_of_one_class_or_one_patient_is_refused(tmp_path):
    healthy = with_embeddings(tmp_path / "healthy", who, lesions=False)
    alone = with_embeddings(tmp_path / "alone", who, test_patients=1)
    for name, config in (("healthy", healthy), ("alone", alone)):
        with pytest.raises(RunError, match="two test patients, and abnormal and healthy"):
            controls.controls(tmp_path / name, config)
