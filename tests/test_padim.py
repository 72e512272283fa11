"""PaDiM: moments and distances at every place equal those of all features at once, in float64."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from configs.base import base, finish
from symnorm_jax.errors import ConfigError
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.rivals.padim import PATCHES, Padim

SIDE, DIM = 8, 5
EMPTY = {"params": {}, "stats": {"healthy": {"n": 0.0, "mean": np.zeros(()), "m2": np.zeros(())}}}


def config(**changes):
    config = finish(base(), "tiny,padim")
    config.update_from_flattened_dict(
        {"data.size": (SIDE, SIDE), "unet.stem": 1, "padim.features": DIM, "padim.blur": 0.0, **changes}
    )
    return config


@pytest.fixture(scope="module")
def model():
    """A PaDiM whose features are its images, so that what it should make of them can be computed."""
    model = Padim(config())
    model.features = lambda variables, image: image
    return model


@pytest.fixture(scope="module")
def measure(model):
    return jax.jit(model.measure)


@pytest.fixture(scope="module")
def residual(model):
    return jax.jit(model.residual)


def draw(count=96, seed=0):
    """Correlated features `[count, 8, 8, 5]` whose means and spread differ from place to place."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(SIDE, SIDE, DIM, DIM))
    found = np.einsum("bhwc,hwcd->bhwd", rng.normal(size=(count, SIDE, SIDE, DIM)), mixing)
    return (found + rng.normal(0, 5, (SIDE, SIDE, DIM))).astype(np.float32)


def fresh():
    shape = (SIDE, SIDE, DIM)
    healthy = {"n": jnp.zeros(()), "mean": jnp.zeros(shape), "m2": jnp.zeros((*shape, DIM))}
    return {"params": {}, "stats": {"healthy": healthy}}


def stream(measure, batches):
    variables = fresh()
    for x in batches:
        _, aux = measure(variables, {"image": jnp.asarray(x)}, jax.random.key(0))
        variables = {"params": {}, "stats": aux.stats}
    return variables


def assert_moments(variables, x):
    healthy, x = variables["stats"]["healthy"], x.astype(float)
    assert healthy["n"] == len(x)
    np.testing.assert_allclose(healthy["mean"], x.mean(0), rtol=1e-5, atol=1e-5)
    for row, column in np.ndindex(SIDE, SIDE):
        expected = np.cov(x[:, row, column].T)
        found = healthy["m2"][row, column] / (len(x) - 1)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.trace(expected))


def test_streamed_moments_are_those_of_all_features(measure):
    x = draw()
    parts = np.split(x, 12)
    assert_moments(stream(measure, parts), x)
    order = np.random.default_rng(1).permutation(12)
    assert_moments(stream(measure, [parts[i] for i in order]), x)


def test_one_batch_is_enough_for_moments(measure):
    assert_moments(stream(measure, [draw(8)]), draw(8))


def test_all_that_is_measured_is_begun_anew():
    """Features of a source run, perhaps of another network, are no part of what is measured on the target."""
    assert BUILD["padim"](config(**{"noise.grid": 4})).stages[PATCHES].measures == tuple(fresh()["stats"])


def test_the_map_is_the_mahalanobis_distance_at_every_place(measure, residual):
    """With 0.01 on the diagonal of the covariance, and 0 outside the brain."""
    x, other = draw(), draw(2, seed=3)
    brain = np.ones((2, SIDE, SIDE, 1), np.float32)
    brain[:, :2] = 0
    found = residual(stream(measure, np.split(x, 12)), {"image": other, "brain": brain})
    for row, column in [(2, 0), (4, 5), (7, 7)]:
        here = x[:, row, column].astype(float)
        precision = np.linalg.inv(np.cov(here.T) + 0.01 * np.eye(DIM))
        expected = [mahalanobis(one[row, column], here.mean(0), precision) for one in other]
        np.testing.assert_allclose(found.map[:, row, column, 0], expected, rtol=1e-3)
    assert (found.map[:, :2] == 0).all()
    np.testing.assert_allclose(found.scalars["peak"], found.map.max((1, 2, 3)))


def test_the_ridge_stands_in_for_features_that_never_vary(measure, residual):
    """Of equal features the covariance is the ridge alone: a distance of sqrt(0.03 ** 2 * 5 / 0.01) = 0.6708."""
    same = np.repeat(draw(1), 8, 0)
    batch = {"image": same[:2] + np.float32(0.03), "brain": np.ones((2, SIDE, SIDE, 1), np.float32)}
    np.testing.assert_allclose(residual(stream(measure, [same, same]), batch).map, 0.6708, rtol=1e-3)


SHARED = """
import jax, numpy as np
from configs.base import base, finish
from symnorm_jax.systems.rivals.padim import Padim
from symnorm_jax.training.sharding import answering, make_mesh
model = Padim(finish(base(), "tiny,padim"))
image = np.random.default_rng(0).random((32, 32, 32, 1), np.float32)
batch = {"image": image, "brain": np.ones_like(image)}
variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), batch))
of = answering(lambda variables, batch: model.residual(variables, batch).map, make_mesh())
for _ in range(40):
    found = jax.block_until_ready(of(variables, batch))
print(jax.device_count(), bool(np.isfinite(found).all()))
"""


def test_maps_are_made_on_two_devices_without_the_flags_of_tests():
    """LAPACK's triangular solve, asked beside a network, hung here within a few batches, but not with tests' flags."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[1]
    asked = [sys.executable, "-c", SHARED]
    found = subprocess.run(asked, env=os.environ | flags, cwd=root, capture_output=True, text=True, timeout=300)
    assert found.stdout.split() == ["2", "True"], found.stderr[-2000:]


def test_features_are_a_fixed_choice_from_every_level():
    """8 of the first level and 16 of the second at half its resolution, enlarged to that of the first."""
    model, image = Padim(config(**{"padim.features": 24})), jnp.zeros((2, SIDE, SIDE, 1))
    levels = [jnp.arange(8.0), jnp.arange(8.0, 24.0)]
    sown = [jnp.broadcast_to(x, (2, side, side, len(x))) for x, side in zip(levels, (8, 4), strict=True)]

    class Encoder:
        def apply(self, params, image, mutable):
            return None, {mutable[0]: {"encoder": (sown,)}}

    model.net = Encoder()
    every = model.features({"params": {"baseline": {}}}, image)
    np.testing.assert_array_equal(every, np.broadcast_to(np.arange(24), (2, SIDE, SIDE, 24)))
    model.chosen = np.array([3, 20])
    assert (model.features({"params": {"baseline": {}}}, image)[0, 0, 0] == model.chosen).all()
    one, again = Padim(config()), Padim(config())
    assert len(set(one.chosen)) == DIM and (one.chosen == again.chosen).all() and one.chosen.max() < 24


def test_moments_are_laid_out_by_place():
    system = BUILD["padim"](config(**{"unet.stem": 2, "noise.grid": SIDE}))
    batch = {"image": jnp.zeros((2, SIDE, SIDE, 1))}
    healthy = jax.eval_shape(system.init, jax.random.key(0), batch)["stats"]["healthy"]
    assert healthy["mean"].shape == (4, 4, DIM) and healthy["m2"].shape == (4, 4, DIM, DIM)
    assert system.stages[PATCHES].trains == () and tuple(system.stages) == ("baseline", PATCHES)


@pytest.mark.parametrize("features", [0, 25])
def test_more_features_than_there_are_are_refused(features):
    with pytest.raises(ConfigError, match=f"padim.features={features}; 1 to 24 are allowed"):
        BUILD["padim"](config(**{"padim.features": features}))
