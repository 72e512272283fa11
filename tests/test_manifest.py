"""Patients stay in one split, and labels cannot be learned across it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from symnorm_jax.data import manifest
from symnorm_jax.errors import ConfigError

FRACTIONS = (0.5, 0.25, 0.25)


def table(healthy=40, diseased=40, slices=5) -> pd.DataFrame:
    patients = np.repeat([f"p{i}" for i in range(healthy + diseased)], slices)
    well = np.repeat(np.arange(healthy + diseased) < healthy, slices)
    label = np.where(well, "healthy", "abnormal")
    return pd.DataFrame(
        {"patient": patients, "healthy_person": well, "label": label, "sha256": patients, "slice": 0, "split": ""}
    ).assign(planted_sha256=np.where(well, "", patients))


def split(rows, train_on="lesion_free_slices", seed=0) -> pd.DataFrame:
    return rows.assign(split=manifest.assign_splits(rows, FRACTIONS, train_on, seed))


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


def test_everyone_is_trained_on_of_the_training_split_alone_and_the_healthy_alone_are_normal():
    rows = split(table().assign(label=lambda x: x.label.mask(x.slice.index % 5 == 0, "neither")), "everyone")
    learned = manifest.trainable(rows, "everyone")
    assert set(rows[learned].split) == {"train"} and set(rows[learned].label) == {"healthy", "abnormal"}
    assert (learned == ((rows.split == "train") & (rows.label != "neither"))).all()
    judged = rows[rows.split != "train"]
    assert not set(rows[learned].patient) & set(judged.patient) and not judged.healthy_person.all()
    normal = manifest.normal(rows, "everyone")
    assert set(rows[normal].label) == {"healthy"} and rows[normal].healthy_person.all()


def test_people_with_a_healthy_session_and_another_are_no_healthy_people():
    well = np.arange(5 * 80) % 5 < 3
    paired = table().assign(healthy_person=well, label=np.where(well, "healthy", "abnormal"))
    told = "the train split is empty: 80 patients .*; 80 have an abnormal scan, whom data.train_on='healthy_people'"
    with pytest.raises(ConfigError, match=told):
        split(paired, "healthy_people")
    mixed = pd.concat([paired.assign(patient="q" + paired.patient), table(diseased=0)], ignore_index=True)
    rows = split(mixed, "healthy_people")
    assert not rows.patient[rows.split == "train"].str.startswith("q").any()
    for train_on in ("everyone", "lesion_free_slices"):
        rows = split(paired, train_on)
        assert (rows.groupby("patient").split.nunique() == 1).all()
        learned = rows[manifest.trainable(rows, train_on)]
        assert learned.groupby("patient").label.nunique().eq(1 + (train_on == "everyone")).all()
        assert rows[manifest.normal(rows, train_on)].healthy_person.all()


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="data.train_on='everybody'; one of"):
        split(table(), "everybody")
    with pytest.raises(ConfigError, match="the val split is empty: 2 patients"):
        split(table(1, 1))
    with pytest.raises(ConfigError, match="three positive shares"):
        manifest.assign_splits(table(), (0.5, 0.5, 0.5), "healthy_people", 0)


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


def test_every_patient_is_tested_once_and_validates_once_over_the_folds():
    rows = table(12, 9)
    for train_on in manifest.TRAIN_ON:
        folds = [manifest.assign_splits(rows, FRACTIONS, train_on, 0, (number, 4)) for number in range(4)]
        tested = pd.concat([rows[fold == "test"] for fold in folds])
        assert sorted(tested.patient) == sorted(rows.patient)
        for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
            well = rows[(fold == "val") & rows.healthy_person].patient.unique()
            assert list(well) == list(rows[(following == "test") & rows.healthy_person].patient.unique())
        assert all(rows[fold == "train"].healthy_person.all() for fold in folds) == (train_on == "healthy_people")


@pytest.mark.parametrize("fold", [(3, 3), (0, 2), (0, 1)])
def test_folds_that_are_not_there_are_refused(fold):
    with pytest.raises(ConfigError, match=f"data.fold={fold[0]}, data.folds={fold[1]}; three folds or more"):
        manifest.assign_splits(table(), FRACTIONS, "healthy_people", 0, fold)


def test_people_whom_a_release_has_split_have_no_folds():
    rows = table()
    rows.loc[rows.patient == "p0", "split"] = "test"
    with pytest.raises(ConfigError, match="neither release nor data.held_out"):
        manifest.assign_splits(rows, FRACTIONS, "healthy_people", 0, (0, 4))
