"""The healthy Gaussian agrees with float64 textbook formulas, and refuses what it cannot describe."""

from functools import reduce

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import OAS, LedoitWolf

from symnorm_jax.errors import ConfigError, EmbeddingError
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.scoring.mahalanobis import distance, estimate, fit
from symnorm_jax.scoring.moments import Moments, merge, stream, update, zeros
from symnorm_jax.scoring.shrinkage import MAX_CONDITION, choose_shrinkage, log_likelihood, oas


def draw(n=400, dim=12, offset=0.0, seed=0):
    """Vectors `[n, dim]` float32 whose variances span a factor of 100 along rotated axes."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return (rng.standard_normal((n, dim)) * np.geomspace(0.2, 2, dim) @ rotation + offset).astype(np.float32)


def draw_patients(patients, slices, own, seed=0, dim=12):
    """Vectors and their patients' names; the share `own` of a vector's variance is not that of its patient."""
    shared = np.repeat(draw(patients, dim, seed=seed), slices, axis=0)
    z = np.sqrt(1 - own) * shared + np.sqrt(own) * draw(patients * slices, dim, seed=seed)
    return z, np.repeat([f"p{i:03}" for i in range(patients)], slices)


def names(z):
    return np.arange(len(z)).astype(str)


def scatter(moments):
    return np.asarray(moments.m2, float) + np.asarray(moments.lost, float)


def assert_moments_equal(moments: Moments, z):
    """Relative to each dimension's mean and standard deviation, to a millionth of float64."""
    z = z.astype(float)
    centred = z - z.mean(0)
    square, expected = (centred**2).sum(1), centred.T @ centred
    scale = np.sqrt(np.diag(expected))
    assert moments.n == len(z)
    np.testing.assert_allclose(moments.mean, z.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scatter(moments) / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-6)
    np.testing.assert_allclose(moments.fourth, square @ square, rtol=1e-6)


def test_moments_of_many_vectors_equal_float64():
    z = draw(200_000, 64, offset=3.0)
    moments = stream(z)
    assert_moments_equal(moments, z)
    # Without the compensation in `lost` the error of the variances is ten times as large.
    np.testing.assert_allclose(np.diag(scatter(moments)) / len(z), np.var(z.astype(float), axis=0), rtol=6e-7)


@pytest.mark.parametrize("seed", range(3))
def test_moments_merge_in_any_order_and_split(seed):
    rng = np.random.default_rng(seed)
    z = draw(5000, 16, offset=10.0)
    parts = [stream(part, 256) for part in np.split(z, np.sort(rng.integers(0, 5000, 7)))]
    shuffled = [parts[i] for i in rng.permutation(8)]
    assert_moments_equal(reduce(merge, shuffled), z)
    halves = [reduce(merge, shuffled[:3]), reduce(merge, shuffled[3:])]
    assert_moments_equal(merge(*halves), z)


def test_moments_merge_with_none():
    z, empty = draw(), zeros(12)
    for moments in (merge(empty, stream(z)), merge(stream(z), empty)):
        assert_moments_equal(moments, z)
    assert all((np.asarray(value) == 0).all() for value in merge(empty, empty))


def test_moments_are_stable_far_from_the_origin():
    z = draw(20_000, 16, offset=100.0)
    z64 = z.astype(float)
    smallest = np.linalg.eigvalsh(np.cov(z64.T, bias=True))[0]
    assert abs(np.linalg.eigvalsh(scatter(stream(z)) / len(z))[0] / smallest - 1) < 1e-4
    assert_moments_equal(stream(z), z)


def test_padding_counts_for_nothing():
    z = draw(100, offset=100.0)
    valid = np.random.default_rng(0).random(100) < 0.6
    valid[0] = False
    padded = np.where(valid[:, None], z, np.nan)
    assert_moments_equal(update(zeros(12), padded, valid), z[valid])
    constant = np.where(valid[:, None], np.full((100, 12), 100.1), 0)
    assert (scatter(update(zeros(12), constant, valid)) == 0).all()
    before = stream(z)
    after = update(before, np.full((8, 12), np.nan), np.zeros(8, bool))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_distance_is_the_definition(shrinkage):
    z, new = draw(), draw(50, seed=1)
    z64, new64 = z.astype(float), new.astype(float)
    covariance = np.cov(z64.T, bias=True)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 12 * np.eye(12)
    centred = new64 - z64.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred))
    np.testing.assert_allclose(distance(fit(stream(z), shrinkage), new), expected, rtol=1e-5)


def test_distance_ignores_an_invertible_map_unless_shrunk():
    z, new = draw(2000), draw(50, seed=1)
    linear = np.random.default_rng(2).standard_normal((12, 12)).astype(np.float32)
    for shrinkage, same in ((0.0, True), (0.5, False)):
        before = distance(fit(stream(z), shrinkage), new)
        mapped = distance(fit(stream(z @ linear + 5), shrinkage), new @ linear + 5)
        assert np.allclose(before, mapped, rtol=1e-3) == same


def test_distance_is_float32_for_half_precision_and_checks_the_shape():
    gaussian = fit(stream(draw(offset=3.3)), 0.1)
    half = jnp.asarray(draw(20, offset=3.3), jnp.bfloat16)
    same = distance(gaussian, half.astype(jnp.float32))
    np.testing.assert_allclose(distance(gaussian, half), same, rtol=1e-6)
    assert same.dtype == jnp.float32
    with pytest.raises(EmbeddingError, match=r"shape \(3, 1\); \[N, 12\]"):
        distance(gaussian, jnp.zeros((3, 1)))


@pytest.mark.parametrize(("n", "dim", "offset"), [(30, 64, 0), (400, 12, 0), (3000, 12, 50), (200, 1, 0)])
def test_shrinkage_formulas_equal_scikit_learn(n, dim, offset):
    z = draw(n, dim, offset)
    for name, reference in (("oas", OAS()), ("ledoit_wolf", LedoitWolf())):
        reference.fit(z.astype(float))
        gaussian = estimate(z, names(z), name, batch=64)
        covariance = np.asarray(gaussian.cholesky, float) @ np.asarray(gaussian.cholesky, float).T
        assert gaussian.shrinkage == pytest.approx(reference.shrinkage_, rel=1e-4)
        np.testing.assert_allclose(covariance, reference.covariance_, rtol=1e-4, atol=1e-5 * covariance.max())


def test_fewer_vectors_than_dimensions_need_shrinkage():
    z = draw(20, 64)
    new = draw(10, 64, seed=1)
    for shrinkage in ("oas", "ledoit_wolf", "auto", 0.1):
        gaussian = estimate(z, names(z), shrinkage)
        assert np.isfinite(distance(gaussian, new)).all()
        assert gaussian.effective_rank <= 19
    with pytest.raises(EmbeddingError, match="20 embeddings in 64 dimensions has condition number inf at shrinkage 0"):
        fit(stream(z), 0)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_vectors_as_dimensions_are_singular_not_merely_ill_conditioned(seed):
    with pytest.raises(EmbeddingError, match="condition number inf"):
        fit(stream(draw(8, 8, seed=seed)), 0)


def test_automatic_shrinkage_can_always_be_solved():
    z = draw(20, 64)
    z[:, 0] *= 1e4
    chosen = choose_shrinkage(z, names(z), candidates=np.array([1e-9]))
    assert chosen == pytest.approx(64 / MAX_CONDITION)
    assert np.isfinite(distance(fit(stream(z), chosen), z)).all()


def test_automatic_shrinkage_counts_patients_not_slices():
    z, patients = draw_patients(20, 100, own=0.02)
    by_slices, by_patients = oas(stream(z)), choose_shrinkage(z, patients)
    assert by_slices < 0.01 < 0.05 < by_patients
    assert choose_shrinkage(z, names(z)) < 0.01  # the same vectors, were each a patient of its own
    z, patients = draw_patients(200, 50, own=1.0)
    assert choose_shrinkage(z, patients) < 0.01  # slices that share nothing are as good as patients


def test_automatic_shrinkage_is_the_most_likely_of_held_out_patients():
    z, patients = draw_patients(6, 10, own=0.5)
    candidates = np.array([0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.9])

    def direct(shrinkage):
        total = 0
        for patient in np.unique(patients):
            train = z[patients != patient].astype(float)
            covariance = np.cov(train.T, bias=True)
            covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 12 * np.eye(12)
            total += multivariate_normal(train.mean(0), covariance).logpdf(z[patients == patient]).sum()
        return total

    expected = [direct(s) for s in candidates]
    assert choose_shrinkage(z, patients, folds=6, candidates=candidates) == candidates[np.argmax(expected)]
    parts = [stream(z[patients == patient]) for patient in np.unique(patients)]
    found = sum(log_likelihood(reduce(merge, parts[:i] + parts[i + 1 :]), parts[i], candidates) for i in range(6))
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], rtol=1e-4)


def test_folds_hold_out_whole_patients(monkeypatch):
    z, patients = draw_patients(7, 4, own=0.5)
    tests = []
    monkeypatch.setattr(
        "symnorm_jax.scoring.shrinkage.log_likelihood", lambda train, test, s: tests.append((train, test)) or s
    )
    choose_shrinkage(z, patients, folds=3)
    assert [int(test.n) for _, test in tests] == [12, 8, 8]
    assert all(train.n + test.n == 28 for train, test in tests)


def test_numbers_describe_the_fit():
    z = draw(5000, 4) @ np.diag([1, 1, 1, 1e-3]).astype(np.float32)
    eigenvalues = np.linalg.eigvalsh(np.cov(z.astype(float).T, bias=True))
    share = eigenvalues / eigenvalues.sum()
    shrunk = 0.9 * eigenvalues + 0.1 * eigenvalues.mean()
    numbers = mahalanobis.report(fit(stream(z), 0.1))
    assert numbers == pytest.approx(
        {
            "dimensions": 4,
            "n": 5000,
            "shrinkage": 0.1,
            "effective_rank": np.exp(-(share * np.log(share)).sum()),
            "condition": shrunk[-1] / shrunk[0],
        },
        rel=1e-4,
    )
    assert {type(value) for value in numbers.values()} == {int, float}


@pytest.mark.parametrize(
    ("z", "sentence"),
    [
        (draw(1), "given 1 embeddings; at least 2"),
        (draw(0), "given 0 embeddings; at least 2"),
        (np.zeros((50, 12)), "deviation 0 about a mean of size 0"),
        (np.full((50, 12), 100.1), "deviation 0 about a mean of size 1e.02"),
        (100 + 1e-5 * draw(50), "deviation .* must exceed"),
        (np.where(np.arange(12) == 3, np.nan, draw(50)), "1 of 12 entries of the healthy embeddings' mean are NaN"),
        (np.where(np.arange(12) == 3, np.inf, draw(50)), "entries of the healthy embeddings' mean are NaN or infinite"),
        (1e30 * draw(50), "entries of the healthy embeddings' m2 are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf", "auto", 0.1])
def test_degenerate_embeddings_raise_a_sentence(z, sentence, shrinkage):
    patients = np.array(["a", "b"] * 25)[: len(z)] if len(z) > 1 else np.array(["a", "b"])[: len(z)]
    if shrinkage == "auto" and len(z) < 2:
        sentence = r"given [01] patient"
    with pytest.raises(EmbeddingError, match=sentence):
        estimate(z, patients, shrinkage)


@pytest.mark.parametrize(
    ("shrinkage", "sentence"),
    [
        (1.5, "=1.5; .*0 to 1"),
        (-0.1, "=-0.1; .*0 to 1"),
        (np.nan, "=nan; .*0 to 1"),
        ("osa", "'osa'; oas, ledoit_wolf"),
    ],
)
def test_impossible_shrinkage_raises_a_sentence(shrinkage, sentence):
    with pytest.raises(ConfigError, match=f"^score.shrinkage.*{sentence}"):
        estimate(draw(), names(draw()), shrinkage)


def test_automatic_shrinkage_needs_two_patients():
    with pytest.raises(EmbeddingError, match="given 1 patient"):
        estimate(draw(), np.full(400, "a"), "auto")


def test_a_gaussian_survives_the_disk(tmp_path):
    gaussian = estimate(draw(), names(draw()), "0.2")
    mahalanobis.save(tmp_path / "gaussian.npz", gaussian)
    loaded = mahalanobis.load(tmp_path / "gaussian.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["gaussian.npz"]
    for name, saved in gaussian._asdict().items():
        assert np.array_equal(getattr(loaded, name), saved) and type(getattr(loaded, name)) is type(saved)


def test_a_pickled_gaussian_is_refused(tmp_path):
    fields = fit(stream(draw()), 0.2)._asdict() | {"mean": np.array([{"a": 1}], dtype=object)}
    np.savez(tmp_path / "gaussian.npz", **fields)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        mahalanobis.load(tmp_path / "gaussian.npz")
