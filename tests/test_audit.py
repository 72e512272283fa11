"""The audit catches each kind of leak, and thumbnails see what is the same."""

import numpy as np
import pytest
from test_manifest import split, table

from symnorm_jax.data.audit import THUMBNAIL, audit, thumbnail
from symnorm_jax.errors import LeakageError


def thumbnails(rows, seed=0) -> np.ndarray:
    """Unit vectors of unrelated images."""
    vectors = np.random.default_rng(seed).normal(size=(len(rows), THUMBNAIL**2))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_clean_table_passes_the_audit():
    audit(split(table()), thumbnails, 0.99)


def test_a_patient_in_two_splits_is_caught():
    rows = split(table())
    rows.loc[rows.index[rows.split == "train"][0], "split"] = "test"
    with pytest.raises(LeakageError, match="patient p.* stands in the splits"):
        audit(rows, thumbnails, 0.99)


def test_one_file_under_two_names_is_caught():
    rows = split(table())
    rows.loc[rows.split == "test", "sha256"] = rows.sha256[rows.split == "train"].iloc[0]
    with pytest.raises(LeakageError, match="source file with SHA-256 p"):
        audit(rows, thumbnails, 0.99)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_near_duplicate_slice_is_caught(mirrored):
    rows = split(table()).reset_index(drop=True)
    copied, original = (np.flatnonzero(rows.split == name)[3] for name in ("test", "val"))

    def with_copy(used):
        vectors = thumbnails(used)
        picture = vectors[original].reshape(THUMBNAIL, -1)
        copy = (picture[::-1] if mirrored else picture).ravel() + 0.003 * thumbnails(used, seed=1)[copied]
        vectors[copied] = copy / np.linalg.norm(copy)
        return vectors

    with pytest.raises(LeakageError, match="near-duplicates above data.duplicate=0.99"):
        audit(rows, with_copy, 0.99)


def test_thumbnails_see_through_brightness_and_tell_images_apart(rng):
    image = rng.normal(size=(60, 52))
    one, other = thumbnail(image), thumbnail(rng.normal(size=(60, 52)))
    assert one.shape == (THUMBNAIL**2,) and one @ thumbnail(3 * image + 7) == pytest.approx(1, abs=1e-5)
    assert abs(one @ other) < 0.3
