"""The models that come along: whole, licensed, found by their names, and the answer where none is named."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from symnorm_jax import Scorer
from symnorm_jax.inference import shipped
from symnorm_jax.inference.card import handed_on, license_of
from symnorm_jax.inference.distil import read


@pytest.mark.parametrize("name", shipped.names())
def test_it_is_whole_of_this_version_and_has_its_licence(name):
    model, folder = read(Path(name)), shipped.FOLDER / name
    assert model.config.data.root is None and model.reference["results"]["patient"]["auroc"]["value"] > 0.5
    card = (folder / "README.md").read_text()
    assert license_of(card) == "cc-by-sa-3.0" and "## Attribution" in card
    assert "Attribution-ShareAlike 3.0 Unported" in (folder / "LICENSE").read_text()


def test_what_lies_here_goes_before_what_comes_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path(shipped.DEFAULT)
    assert shipped.found(own) == shipped.FOLDER / shipped.DEFAULT
    own.mkdir()
    assert shipped.found(own) == own and shipped.found(Path("other")) == Path("other")
    assert shipped.default() == shipped.FOLDER / shipped.DEFAULT  # where none is named nothing else is taken


def test_licence_and_attribution_go_along():
    licence, about = handed_on(shipped.default())
    assert licence == "cc-by-sa-3.0" and about.startswith("# ixi_t1, from which") and "## Attribution" in about


def test_the_package_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert shipped.cache_of(shipped.FOLDER / "ixi_t1").is_relative_to(tmp_path)
    assert shipped.cache_of(tmp_path / "runs" / "mine") == tmp_path / "runs" / "mine"


@pytest.mark.long  # it takes a brain out of a head, twice
def test_a_healthy_head_is_normal_until_a_lesion_is_painted_into_it(real_data):
    head = nib.load(next((real_data / "ixi" / "IXI-T1").glob("IXI127-*")))
    scorer, voxels = Scorer.load("ixi_t1"), np.asarray(head.dataobj).astype(float)
    sound = scorer(nib.Nifti1Image(voxels, head.affine, head.header))
    assert (sound.verdict, sound.about["brain_from"]) == ("normal", "extract")
    middle = np.argwhere(np.asarray(sound.brain.dataobj)).mean(0)
    away = np.linalg.norm((np.indices(head.shape).T - middle - (0, 0, 15)).T * 2.0, axis=0)  # mm
    painted = scorer(nib.Nifti1Image(np.where(away < 12, 0.4 * voxels, voxels), head.affine, head.header))
    assert (painted.verdict, painted.score > 2 * sound.score) == ("abnormal", True)
    assert (np.asarray(painted.lesions.dataobj)[away < 10] > 0).mean() > 0.5
