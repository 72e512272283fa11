"""Shares of tissue to learn from: kept beside the slices, delivered to training alone, refused where they lack."""

from pathlib import Path

import numpy as np
import pytest
from layouts import write_ixi, write_table

from configs import demo
from symnorm_jax.data import prepare, store
from symnorm_jax.data.manifest import trainable
from symnorm_jax.data.sources import ixi, table
from symnorm_jax.data.volumes import read_nifti, write_nifti
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.training import passes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Phantoms cut for symnorm, and then for dal into the same store: the manifests, and the store."""
    config = demo.get_config("tiny").data
    few = {"options.healthy": 6, "options.patients": 3, "workers": 1, "midline": "centred"}
    config.update_from_flattened_dict(few | {"store": str(tmp_path_factory.mktemp("store"))})
    plain = prepare.prepare(config, 0)
    files = {path.name: path.read_bytes() for path in Path(config.store).iterdir()}
    return config, plain, files, prepare.prepare(config, 0, prior=("labels", 3))


def test_slices_stay_what_they_were(prepared):
    config, plain, files, table = prepared
    assert table.to_csv() == plain.to_csv()
    now = {path.name: path.read_bytes() for path in Path(config.store).iterdir()}
    assert files == {name: x for name, x in now.items() if ".labels3." not in name}
    assert len(now) == len(files) + table.store.nunique()


def test_training_slices_have_shares_of_tissue(prepared):
    config, _, _, table = prepared
    rows = table[trainable(table, config.train_on)]
    source = store.SampleSource(config.store, rows, prior=("labels", 3))
    one = source[len(rows) // 2]
    assert one["prior"].shape == (*config.size, 3) and one["prior"].dtype == np.float32
    total = one["prior"].sum(-1)
    assert np.allclose(total[one["brain"][..., 0] > 0], 1, atol=0.02) and not total[one["brain"][..., 0] == 0].any()
    means = [(one["image"][..., 0] * share).sum() / share.sum() for share in np.moveaxis(one["prior"], -1, 0)]
    assert means[2] < means[0] < means[1]  # fluid, grey and white matter on T1


def test_scores_need_none_and_see_none(prepared):
    config, _, _, table = prepared
    before = store.SampleSource(config.store, table)[3]
    for path in Path(config.store).glob("*.labels3.*"):
        path.unlink()
    after = store.SampleSource(config.store, table)[3]
    assert after.keys() == before.keys() and "prior" not in after and "prior" not in passes.SEEN
    assert all((after[name] == before[name]).all() for name in after)
    assert len(store.without_prior(config.store, table, ("labels", 3))) == len(table)
    assert not len(store.without_prior(config.store, table, None))


def test_an_atlas_lies_where_tissues_are(prepared, monkeypatch):
    """Of people without labels, who here have them: fluid, grey and white matter of phantoms, from no image."""
    config = prepared[0]
    bare = [scan._replace(tissue=None) for scan in prepare.find_scans(config)]
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "find_scans", lambda config: bare)
        prepare.prepare(config, 0, prior=("atlas", 3))
    table = prepare.prepare(config, 0, prior=("labels", 3))
    atlas, truth = (store.SampleSource(config.store, table, prior=(kind, 3)) for kind in ("atlas", "labels"))
    said, true, brain = (
        [one[i][name] for i in range(len(table))]
        for one, name in ((atlas, "prior"), (truth, "prior"), (truth, "brain"))
    )
    inside = np.stack(brain)[..., 0] > 0
    said, true = np.stack(said)[inside], np.stack(true)[inside][:, [2, 0, 1]]
    assert said.min() > 0.015 and np.allclose(said.sum(-1), 1, atol=0.02)
    same = said.argmax(-1) == true.argmax(-1)
    by_lot = (said.argmax(-1) == np.random.default_rng(0).permutation(true).argmax(-1)).mean()
    assert same.mean() > 0.6 > by_lot + 0.1


def test_a_source_without_tissue_is_refused_before_it_is_read(prepared, monkeypatch):
    config = prepared[0]
    bare = [scan._replace(tissue=None, load=None) for scan in prepare.find_scans(config)]
    monkeypatch.setattr(prepare, "find_scans", lambda config: bare)
    with pytest.raises(ConfigError, match="data.source='phantom', of which no scan has a map of tissue"):
        prepare.prepare(config, 0, prior=("labels", 3))


def test_people_to_train_on_without_tissue_are_named(prepared, monkeypatch):
    config, plain, *_ = prepared
    person = plain[trainable(plain, config.train_on)].patient.iloc[0]
    some = [scan._replace(tissue=None) if scan.patient == person else scan for scan in prepare.find_scans(config)]
    for path in Path(config.store).glob("*.labels3.*"):
        path.unlink()
    monkeypatch.setattr(prepare, "find_scans", lambda config: some)
    with pytest.raises(ScanError, match=f"1 of . people to train on have no map of tissue, the first {person}"):
        prepare.prepare(config, 0, prior=("labels", 3))


def test_more_labels_than_classes_are_refused(prepared):
    config = prepared[0]
    with pytest.raises(ScanError, match="the labels of tissue reach 3; 1 to 2, the classes of the anatomy"):
        config.strict = True
        prepare.prepare(config, 0, prior=("labels", 2))


def test_regions_of_a_brain_are_tissues(tmp_path):
    """Of IXI: the regions 47 and 48 are grey matter, and the hole between them is fluid."""
    [scan, *_] = ixi.records(str(write_ixi(tmp_path, people=1)), planted=0)
    volume = scan.load()
    tissue = scan.tissue(volume)
    assert set(np.unique(tissue)) == {0, 1, 2} and ((tissue > 0) == volume.brain).all()
    assert tissue[tuple(side // 2 for side in tissue.shape)] == 1
    assert ixi.records(str(write_ixi(tmp_path / "bare", people=1, labels=False)), planted=0)[0].tissue is None


def test_a_table_may_name_maps_of_tissue(tmp_path):
    lines = write_table(tmp_path, people=3, size=12).read_text().splitlines()
    lines = [
        f"{line},{cell}" for line, cell in zip(lines, ("tissue_path", "brain/0.nii.gz", "half.nii.gz", ""), strict=True)
    ]
    (tmp_path / "scans.csv").write_text("\n".join(lines) + "\n")
    brain, affine = read_nifti(tmp_path / "brain" / "1.nii.gz")
    write_nifti(tmp_path / "half.nii.gz", brain / 2, affine)
    first, second, third = table.records(str(tmp_path / "scans.csv"))
    np.testing.assert_array_equal(first.tissue(first.load()), read_nifti(tmp_path / "brain" / "0.nii.gz")[0])
    assert third.tissue is None and str(tmp_path / "half.nii.gz") in second.extras
    with pytest.raises(ScanError, match="half.nii.gz: labels reach from 0 to 0.5; whole numbers from 0 to 255"):
        second.tissue(second.load())
