"""The audit catches each kind of leak: a patient, a file, and copies of scans and slices, however re-exported."""

import json
from contextlib import nullcontext
from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from test_manifest import split, table

from configs import demo
from symnorm_jax.data.audit import audit, audit_source
from symnorm_jax.data.fingerprint import fingerprint, likeness
from symnorm_jax.data.phantom import people
from symnorm_jax.errors import LeakageError
from symnorm_jax.lineage import audit_lineage
from symnorm_jax.rundir import MANIFEST, write_config
from symnorm_jax.settings import ALL_TEST

LIMIT = 0.8


def unread(rows):
    raise AssertionError("nothing needs to be read")


@cache
def phantom(person: int) -> tuple[np.ndarray, np.ndarray]:
    """Slices `[N, X, Y]` of a phantom, and its brain, 4 mm apart every way."""
    volume = people.records(None, healthy=person + 1, patients=0, seed=0, spacing=4.0)[person].load()
    image = np.where(volume.brain, volume.voxels / np.percentile(volume.voxels[volume.brain], 99), 0)
    shown = np.flatnonzero(volume.brain.sum((0, 1)) > 250)[::2]
    return tuple(
        np.moveaxis(one[..., shown], -1, 0).astype(kind) for one, kind in ((image, float), (volume.brain, bool))
    )


def moved(values: np.ndarray, degrees=0.0, scale=1.0, shift=0.0) -> np.ndarray:
    """Slices `[N, X, Y]` turned and moved in plane, and made larger."""
    angle, middle = np.radians(degrees), (np.array(values.shape[1:]) - 1) / 2
    linear = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    offset = middle - linear @ (middle + shift)
    return np.stack([ndimage.affine_transform(one.astype(float), linear, offset, order=1) for one in values])


def posed(images, brains, **pose):
    return moved(images, **pose), moved(brains, **pose) > 0.5


def noisy(images, brains):
    return images + np.random.default_rng(0).normal(0, 0.03, images.shape) * brains, brains


def biased(images, brains):
    return images * np.linspace(0.7, 1.3, images.shape[1])[:, None], brains


CHANGES = {
    "none": lambda images, brains: (images, brains),
    "gamma": lambda images, brains: (np.maximum(images, 0) ** 0.7, brains),
    "bias field": biased,
    "shift": lambda *scan: posed(*scan, shift=2),
    "scale": lambda *scan: posed(*scan, scale=0.95),
    "turn": lambda *scan: posed(*scan, degrees=5),
    "mirror": lambda images, brains: (images[:, ::-1], brains[:, ::-1]),
    "noise": noisy,
    "crop": lambda images, brains: (images[3:], brains[3:]),
}


def of_phantoms(scans: list[tuple]):
    """A table of scans that stand in the splits in turn, and what reads them."""
    rows = table(healthy=len(scans), diseased=0, slices=1)
    rows["split"] = [("train", "val", "test")[i % 3] for i in range(len(scans))]
    rows = rows.assign(store=rows.patient, session="").loc[rows.index.repeat([len(one[0]) for one in scans])]
    rows = rows.assign(slice=rows.groupby("store").cumcount()).reset_index(drop=True)

    def read(part):
        images, brains = scans[int(part.store.iloc[0][1:])]
        return images[part.slice], brains[part.slice]

    return rows, read


def test_a_clean_table_passes_the_audit():
    audit(split(table()), unread, 1.0)


def test_a_patient_in_two_splits_is_caught():
    rows = split(table())
    rows.loc[rows.index[rows.split == "train"][0], "split"] = "test"
    with pytest.raises(LeakageError, match="patient p.* stands in the splits"):
        audit(rows, unread, LIMIT)


def test_one_file_under_two_names_is_caught():
    rows = split(table())
    rows.loc[rows.split == "test", "sha256"] = rows.sha256[rows.split == "train"].iloc[0]
    with pytest.raises(LeakageError, match="source file with SHA-256 p"):
        audit(rows, unread, LIMIT)


def test_one_planted_lesion_in_two_splits_is_caught():
    rows = split(table())
    lesions = rows.planted_sha256 != ""
    rows.loc[lesions & (rows.split == "test"), "planted_sha256"] = "p40"
    rows.loc[lesions & (rows.split == "train"), "planted_sha256"] = "p40"
    with pytest.raises(LeakageError, match="planted lesion with SHA-256 p40 stands in the splits .'test', 'train'."):
        audit(rows, unread, LIMIT)


def test_what_a_source_has_learned_from_is_not_judged_nor_are_its_planted_lesions():
    """Healthy people have a blank for a planted lesion, which is nobody's."""
    rows = split(table())
    theirs = rows.assign(sha256="a" + rows.sha256, patient="a" + rows.patient, planted_sha256="")
    audit_source(rows, theirs, "source", True)
    shared = theirs.assign(planted_sha256=rows.planted_sha256.where(rows.split == "test", ""), split="train")
    for same_people in (True, False):
        with pytest.raises(LeakageError, match="planted_sha256 p.* stands in the test split and in the train split of"):
            audit_source(rows, shared, "source", same_people)
    audit_source(rows, theirs.assign(patient=rows.patient, split="train"), "source", False)
    with pytest.raises(LeakageError, match="patient p"):
        audit_source(rows, theirs.assign(patient=rows.patient, split="train"), "source", True)


@pytest.mark.parametrize("source, refused", [("ixi", True), ("table", True), ("phantom", False)])
def test_people_whom_a_run_learned_from_are_not_judged_by_it_from_a_table_either(tmp_path, source, refused):
    """By another scan of theirs, which no hash finds. Phantoms of other settings have one another's names."""
    theirs = split(table())
    for folder, of in ((tmp_path, source), (tmp_path / "judged", "table")):
        folder.mkdir(exist_ok=True)
        config = demo.get_config("tiny")
        config.update({"data": {"source": of, "duplicate": 1.0}})
        write_config(folder, json.loads(config.to_json()))
    theirs.to_csv(tmp_path / MANIFEST, index_label="index")
    config.update({"data": {"split": ALL_TEST}, "init_from": str(tmp_path)})
    rows = theirs[theirs.split == "train"].assign(split="test", planted_sha256="", sha256="another")
    with pytest.raises(LeakageError, match="patient p.* in the train split of init_from") if refused else nullcontext():
        audit_lineage(rows, config, tmp_path / "judged")


def test_other_people_are_no_copies():
    audit(*of_phantoms([phantom(person) for person in range(4)]), LIMIT)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_of_a_scan_is_caught(change):
    """As p2 of the test split, of p0 of the training split."""
    scans = [phantom(0), phantom(1), CHANGES[change](*phantom(0))]
    with pytest.raises(LeakageError) as caught:
        audit(*of_phantoms(scans), LIMIT)
    told = str(caught.value)
    assert told.startswith("the scan p2 (test) and the scan p0 (train) have a likeness of ") and told.count(".") >= 2
    assert told.endswith("copies by data.duplicate=0.8 must stand in a single split.")


@pytest.mark.parametrize("change", ["none", "gamma", "bias field", "shift", "mirror"])
def test_a_copied_slice_under_another_patient_is_caught(change):
    (images, brains), slice_ = phantom(2), slice(5, 6)
    mixed = images.copy(), brains.copy()
    mixed[0][7:8], mixed[1][7:8] = CHANGES[change](*(one[slice_] for one in phantom(0)))
    rows, read = of_phantoms([phantom(0), phantom(1), mixed])
    with pytest.raises(LeakageError, match=r"slice 7 of p2 \(test\) and slice 5 of p0 \(train\) have .* above 0.9;"):
        audit(rows, read, LIMIT)


def test_whole_volumes_are_compared_too():
    def read(part):
        images, brains = phantom((0, 1, 0)[int(part.store.iloc[0][1:])])
        return np.moveaxis(images, 0, -1)[None], np.moveaxis(brains, 0, -1)[None]

    rows, _ = of_phantoms([(np.zeros(1),)] * 3)
    with pytest.raises(LeakageError, match=r"the scan p2 \(test\) and the scan p0 \(train\)"):
        audit(rows, read, LIMIT)


def test_a_limit_of_1_reads_nothing():
    rows, _ = of_phantoms([phantom(0), phantom(1), phantom(0)])
    audit(rows, unread, 1.0)


def test_alignment_tells_a_turned_scan_from_another_person():
    """Turned by 9 degrees: what is unlike where it lies is a copy once aligned, and another person stays unlike."""
    mine, turned, other = (
        fingerprint(*(np.moveaxis(one, 0, -1) for one in scan))
        for scan in (phantom(0), posed(*phantom(0), degrees=9), phantom(1))
    )
    assert (mine * turned).sum() < LIMIT < likeness(turned, mine)
    assert likeness(other, mine) < LIMIT - 0.1


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 9)])
def test_what_shows_nothing_is_like_nothing(shape):
    nothing, flat = np.zeros(shape), np.ones(shape)
    for brain in (nothing > 0, flat > 0):
        found = fingerprint(flat if brain.any() else nothing, brain)
        assert np.isfinite(found).all() and likeness(found, found) <= 1 + 1e-6
