"""Patients stay in one split, and the audit catches each kind of leak."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from symnorm_jax.data import manifest
from symnorm_jax.errors import ConfigError, LeakageError

FRACTIONS = (0.5, 0.25, 0.25)


def table(healthy=40, diseased=40, slices=5) -> pd.DataFrame:
    patients = np.repeat([f"p{i}" for i in range(healthy + diseased)], slices)
    well = np.repeat(np.arange(healthy + diseased) < healthy, slices)
    label = np.where(well, "healthy", "abnormal")
    return pd.DataFrame(
        {"patient": patients, "healthy_person": well, "label": label, "sha256": patients, "slice": 0, "split": ""}
    )


def split(rows, train_on="lesion_free_slices", seed=0) -> pd.DataFrame:
    return rows.assign(split=manifest.assign_splits(rows, FRACTIONS, train_on, seed))


def thumbnails(rows, seed=0) -> np.ndarray:
    """Unit vectors of unrelated images."""
    vectors = np.random.default_rng(seed).normal(size=(len(rows), manifest.THUMBNAIL**2))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_whole_patients_in_proportion_and_stratified():
    rows = split(table())
    assert (rows.groupby("patient").split.nunique() == 1).all()
    people = rows.drop_duplicates("patient")
    for well in (True, False):
        shares = people[people.healthy_person == well].split.value_counts(normalize=True)
        assert [shares[name] for name in manifest.SPLITS] == [0.5, 0.25, 0.25]


def test_the_seed_decides():
    rows = table()
    assert split(rows).split.equals(split(rows).split) and not split(rows).split.equals(split(rows, seed=1).split)


def test_diseased_people_are_kept_for_judging_where_healthy_people_train():
    rows = split(table(), "healthy_people")
    assert rows[rows.split == "train"].healthy_person.all() and not rows[rows.split == "val"].healthy_person.all()


def test_only_healthy_slices_are_trainable():
    rows = split(table())
    assert set(rows[manifest.trainable(rows, "lesion_free_slices")].label) == {"healthy"}
    mixed = rows.assign(label="healthy")
    assert mixed[manifest.trainable(mixed, "healthy_people")].healthy_person.all()
    assert not mixed[manifest.trainable(mixed, "lesion_free_slices")].healthy_person.all()


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="data.train_on='everybody'; one of"):
        split(table(), "everybody")
    with pytest.raises(ConfigError, match="the val split is empty: 2 patients"):
        split(table(1, 1))
    with pytest.raises(ConfigError, match="three positive shares"):
        manifest.assign_splits(table(), (0.5, 0.5, 0.5), "healthy_people", 0)


def test_a_clean_table_passes_the_audit():
    manifest.audit(split(table()), thumbnails, 0.99)


def test_a_patient_in_two_splits_is_caught():
    rows = split(table())
    rows.loc[rows.index[rows.split == "train"][0], "split"] = "test"
    with pytest.raises(LeakageError, match="patient p.* stands in the splits"):
        manifest.audit(rows, thumbnails, 0.99)


def test_one_file_under_two_names_is_caught():
    rows = split(table())
    rows.loc[rows.split == "test", "sha256"] = rows.sha256[rows.split == "train"].iloc[0]
    with pytest.raises(LeakageError, match="source file with SHA-256 p"):
        manifest.audit(rows, thumbnails, 0.99)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_near_duplicate_slice_is_caught(mirrored):
    rows = split(table()).reset_index(drop=True)
    copied, original = (np.flatnonzero(rows.split == name)[3] for name in ("test", "val"))

    def with_copy(used):
        vectors = thumbnails(used)
        picture = vectors[original].reshape(manifest.THUMBNAIL, -1)
        copy = (picture[::-1] if mirrored else picture).ravel() + 0.003 * thumbnails(used, seed=1)[copied]
        vectors[copied] = copy / np.linalg.norm(copy)
        return vectors

    with pytest.raises(LeakageError, match="near-duplicates above data.duplicate=0.99"):
        manifest.audit(rows, with_copy, 0.99)


def test_thumbnails_see_through_brightness_and_tell_images_apart(rng):
    image = rng.normal(size=(60, 52))
    one, other = manifest.thumbnail(image), manifest.thumbnail(rng.normal(size=(60, 52)))
    assert one.shape == (manifest.THUMBNAIL**2,) and one @ manifest.thumbnail(3 * image + 7) == pytest.approx(1)
    assert abs(one @ other) < 0.3


def test_random_labels_cannot_be_learned_across_the_patient_split(rng):
    """Slices of a person look alike, so a nearest neighbour reads labels off people where a split lets it.

    With whole patients apart, labels drawn at random stay unknowable; with slices dealt freely they are known.
    """
    rows = split(table(300, 300, slices=6))
    identity = rng.normal(size=(600, 16)).repeat(6, axis=0) + 0.1 * rng.normal(size=(3600, 16))
    label = rng.permutation(np.arange(600) % 2).repeat(6)

    def auroc(train, test):
        nearest = ((identity[test][:, None] - identity[train][None]) ** 2).sum(-1).argmin(1)
        return roc_auc_score(label[test], label[train][nearest])

    apart = auroc(np.flatnonzero(rows.split == "train"), np.flatnonzero(rows.split == "test"))
    dealt = rng.permutation(3600)
    assert abs(apart - 0.5) < 0.12 and auroc(dealt[:1800], dealt[1800:2700]) > 0.9
