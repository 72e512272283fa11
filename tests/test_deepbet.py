"""The brain by deepbet's networks: as deepbet itself finds it, and what is done before and after the networks.

`golden/deepbet.npz` keeps the mask that deepbet 1.0.2 with torch 2.13 draws in a phantom with a skull and a scalp.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from test_brain import SHAPE, ball, head, scan
from threadpoolctl import threadpool_limits

from configs import table
from symnorm_jax.data import deepbet
from symnorm_jax.data.brain import brain_mask
from symnorm_jax.data.deepbet import find_brain
from symnorm_jax.data.phantom import people
from symnorm_jax.data.prepare import store_scans
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import ConfigError, ScanError

GOLDEN = Path(__file__).parent / "golden" / "deepbet.npz"


def phantom_head() -> np.ndarray:
    """A phantom's brain, 4 mm voxels, with 6 mm of black bone and 10 mm of scalp around it."""
    volume = people.load("phantom-h0000", None, people.Look(0, spacing=4.0))
    voxels, brain = np.pad(volume.voxels, 6), np.pad(volume.brain, 6)
    away = 4 * ndimage.distance_transform_edt(~brain)
    voxels[(away > 6) & (away < 16)] = 180
    return voxels


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_mask_is_that_of_deepbet():
    voxels = phantom_head()
    before = voxels.copy()
    with np.load(GOLDEN) as held:
        theirs = np.unpackbits(held["mask"])[: voxels.size].reshape(held["shape"]).astype(bool)
    mask = find_brain(voxels)
    assert mask.dtype == bool and overlap(mask, theirs) > 0.999 and np.array_equal(voxels, before)


def test_the_kept_mask_is_what_deepbet_draws():
    package = pytest.importorskip("deepbet", reason="deepbet is not installed; its mask is kept in tests/golden")
    network = package.BrainExtraction(no_gpu=True)
    theirs = network.postprocess(network.run_model(phantom_head()) > 0.5)
    with np.load(GOLDEN) as held:
        assert np.array_equal(held["mask"], np.packbits(theirs))


@pytest.fixture
def networks(monkeypatch):
    """Networks that take for brain what is brighter than 0.9 of the brightest; `calls` has the shapes they saw."""

    class Network:
        calls = []

        def run(self, _, given):
            x = given["head"]
            self.calls.append(x.shape)
            assert x.dtype == np.float32
            return [(x - x.min()) / (x.max() - x.min()) - 0.9]

    monkeypatch.setattr(deepbet, "_network", lambda name: Network())
    return Network


def test_the_largest_region_is_found_and_filled(networks):
    volume = head()
    volume.voxels[18:22, 22:26, 16:20] = 0  # a ventricle
    volume.voxels[1:3, 1:3, 1:3] = 100
    assert np.array_equal(brain_mask(volume, "extract"), ball(14))
    assert networks.calls == [(1, 1, 128, 128, 128), (1, 1, 256, 256, 256)]


def test_regions_that_share_a_corner_are_one(networks):
    voxels = np.zeros(SHAPE, np.float32)
    voxels[8:20, 8:24, 8:18] = voxels[20:30, 24:40, 18:28] = 100
    assert np.array_equal(find_brain(voxels), voxels > 0)


def test_a_brain_at_the_edge_of_a_thin_stack(networks):
    voxels = np.zeros((90, 64, 5), np.float32)
    voxels[40:, 10:50] = 100
    assert np.array_equal(find_brain(voxels), voxels > 0)


@pytest.mark.parametrize(
    ("voxels", "sentence"),
    [
        (np.zeros(SHAPE), "nearly all of the scan has the value 0"),
        (100 * (np.indices((40, 48, 1))[0] > 20), "a side of 1 voxels is too short"),
    ],
)
def test_a_scan_without_a_brain(networks, voxels, sentence):
    with pytest.raises(ScanError, match=f"deepbet found no brain: {sentence}"):
        find_brain(voxels.astype(np.float32))


@pytest.mark.parametrize(("side", "sentence"), [(0, "no voxel looks"), (16, "0.20% of the scan look")])
def test_networks_that_see_next_to_nothing(networks, monkeypatch, side, sentence):
    seen = np.indices((1, 1, 128, 128, 128)).max(0) < side
    monkeypatch.setattr(networks, "run", lambda *_: [seen])
    with pytest.raises(ScanError, match=f"deepbet found no brain: {sentence} like one"):
        find_brain(head().voxels)


def test_the_manifest_says_where_each_brain_comes_from_and_names_what_has_none(networks, tmp_path):
    stripped = scan(np.where(ball(14), 100.0 + np.indices(SHAPE)[2], 0))
    whole = stripped._replace(voxels=stripped.voxels + 50 * (ball(22) & ~ball(16)))
    volumes = {"file": whole._replace(brain=ball(12)), "nonzero": stripped, "extract": whole}
    volumes["noise"] = scan(np.random.default_rng(0).normal(100, 1, SHAPE))
    scans = [Scan(name, "", True, partial(_given, volume), recipe=name) for name, volume in volumes.items()]
    config = table.get_config("tiny").data
    config.update(store=str(tmp_path), workers=1, midline="centred", min_brain=100.0)
    rows = store_scans(scans, config)
    found = rows[rows.split != "excluded"].groupby("patient").brain.unique().str.join(",")
    assert found.to_dict() == {name: name for name in ("file", "nonzero", "extract")}
    [left_out] = rows[rows.split == "excluded"].to_dict("records")
    assert left_out["patient"] == "noise" and left_out["exclusion"].startswith("deepbet found")
    config.strict = True
    with pytest.raises(ScanError, match="^noise: deepbet found"):
        store_scans(scans[-1:], config)


def _given(volume, reading=None):
    return volume


@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_is_loaded_once_for_the_threads_that_are_given(threads):
    deepbet._network.cache_clear()
    with threadpool_limits(threads):
        network = deepbet._network("deepbet_box")
    assert network.get_session_options().intra_op_num_threads == threads
    assert deepbet._network("deepbet_box") is network
    deepbet._network.cache_clear()


def test_weights_that_are_damaged(monkeypatch, tmp_path):
    deepbet._network.cache_clear()
    monkeypatch.setattr(deepbet, "WEIGHTS", tmp_path)
    for text in (None, b"", b"\x08\x08" + bytes(100)):
        if text is not None:
            (tmp_path / "deepbet_box.onnx").write_bytes(text)
        with pytest.raises(ConfigError, match=r"data.extractor='deepbet' cannot be loaded \(.*\); install it anew."):
            find_brain(head().voxels)


def test_a_network_leaves_nothing_at_home_and_reports_to_nobody(tmp_path):
    program = "from symnorm_jax.data import deepbet; deepbet._network('deepbet_box')"
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    subprocess.run([sys.executable, "-c", program], env=kept | places, cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())
