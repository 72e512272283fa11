import pickle

import numpy as np
import pytest
from scipy import ndimage

from symnorm_jax.data.phantom import anatomy, lesions, people
from symnorm_jax.geometry import centred_affine, mirror

SPACING = 5.0


DISEASES = ("metastases", None)


def cohort(healthy=1, patients=1, seed=3, contrast="t1", spacing=SPACING, disease="metastases"):
    scans = people.records(
        None,
        healthy=healthy,
        patients=patients,
        seed=seed,
        contrast=contrast,
        spacing=spacing,
        disease=disease,
    )
    return {scan.patient: scan for scan in scans}


def person(name, disease=None, contrast="t1", spacing=SPACING, seed=3):
    return people.load(name, disease, people.Look(seed, contrast, spacing))


def test_a_person_is_the_same_in_any_cohort_and_in_another_process():
    small, large = cohort(1, 1), cohort(3, 2)
    assert list(large) == [f"phantom-{name}" for name in ("h0000", "h0001", "h0002", "p0000", "p0001")]
    for name, scan in small.items():
        assert scan.recipe == large[name].recipe
        travelled = pickle.loads(pickle.dumps(large[name].load))()
        for here, there in zip(scan.load(), travelled, strict=True):
            np.testing.assert_array_equal(here, there)


def test_voxels_stay_as_they_were():
    volume = person("phantom-p0001", "glioma", "t1_gd", 8.0)
    brightness = [volume.voxels.sum(), volume.voxels[::2].sum()]
    np.testing.assert_allclose(brightness, [625171, 312051], rtol=1e-3)  # rounding may flip a voxel at an edge
    np.testing.assert_allclose([volume.lesion.sum(), volume.brain.sum()], [263, 4047], atol=3)


def test_people_and_seeds_differ():
    heads = [person("phantom-h0000"), person("phantom-h0001"), person("phantom-h0000", seed=4)]
    for a, b in ((0, 1), (0, 2)):
        assert (heads[a].brain != heads[b].brain).mean() > 0.01


def test_the_recipe_names_everything_that_decides_the_voxels():
    variants = [{}, {"seed": 4}, {"contrast": "flair"}, {"spacing": 4.0}, {"disease": "atrophy"}]
    recipes = {cohort(**variant)["phantom-p0000"].recipe for variant in variants}
    assert len(recipes) == len(variants)


def test_volumes_are_well_formed():
    volume = person("phantom-h0000", spacing=4.0)
    assert volume.voxels.dtype == np.float32 and volume.lesion.dtype == volume.brain.dtype == bool
    assert volume.voxels.shape == volume.lesion.shape == volume.brain.shape == (46, 54, 46)
    np.testing.assert_allclose(np.diag(volume.affine), [4, 4, 4, 1])
    assert not volume.voxels[~volume.brain].any()
    assert 1.3e6 < volume.brain.sum() * 4.0**3 < 2.5e6  # mm^3
    margins = [volume.brain.any(axis=(1, 2))[[0, -1]], volume.brain.any(axis=(0, 2))[[0, -1]]]
    assert not np.any(margins), "the head does not fit into the field of view"


def test_tissue_is_as_bright_as_its_contrast_says():
    for contrast, (grey, white, *_) in people.INTENSITIES.items():
        head = person("phantom-h0000", contrast=contrast, spacing=4.0)
        deep = ndimage.binary_erosion(head.brain, iterations=4)
        low, high = np.percentile(head.voxels[deep], [25, 75])
        assert 0.85 * min(grey, white) < low < high < 1.15 * max(grey, white)


@pytest.mark.parametrize("name", ["phantom-h0000", "phantom-h0001", "phantom-h0002"])
def test_heads_resemble_their_mirror_image_but_are_not_it(name):
    head = person(name, spacing=4.0)
    either = head.brain | mirror(head.brain)
    inside = np.corrcoef(head.voxels[either], mirror(head.voxels)[either])[0, 1]
    overall = np.corrcoef(head.voxels.ravel(), mirror(head.voxels).ravel())[0, 1]
    assert inside < 0.9 and 0.7 < overall < 0.995


def test_heads_are_tilted_scaled_and_unevenly_bent():
    shape, spacings = (12, 14, 12), (15.0, 15.0, 15.0)
    affine = centred_affine(shape, spacings)
    indices = np.indices(shape).reshape(3, -1)
    millimetres = np.vstack([affine[:3, :3] @ indices + affine[:3, 3:], np.ones(indices.shape[1])])
    rolls, sizes = [], []
    for k in range(20):
        places = anatomy.places_of(np.random.default_rng(k), shape, affine).reshape(3, -1)
        linear = np.linalg.lstsq(millimetres.T, places.T, rcond=None)[0].T
        bend = (places - linear @ millimetres).reshape(3, *shape)
        uneven = bend - np.reshape([-1, 1, 1], (3, 1, 1, 1)) * bend[:, ::-1]
        assert 1.5 < bend.std() < 6 and uneven.std() > bend.std()
        rolls.append(np.degrees(np.arctan2(linear[0, 2], linear[2, 2])))
        sizes.append(np.linalg.norm(linear[:, 2]))
    assert 1.5 < np.std(rolls) < 5 and np.max(np.abs(rolls)) < 9
    assert 0.015 < np.std(sizes) < 0.08


def test_the_same_anatomy_at_another_voxel_size():
    coarse, fine = person("phantom-h0001", spacing=7.7), person("phantom-h0001", spacing=4.0)
    to_fine = np.linalg.inv(fine.affine) @ coarse.affine
    resampled = ndimage.affine_transform(fine.brain * 1.0, to_fine, output_shape=coarse.brain.shape, order=1) > 0.5
    assert 2 * (resampled & coarse.brain).sum() / (resampled.sum() + coarse.brain.sum()) > 0.97


def test_the_same_anatomy_and_lesions_in_another_contrast():
    t1, flair = (person("phantom-p0001", "metastases", contrast=contrast) for contrast in ("t1", "flair"))
    np.testing.assert_array_equal(t1.brain, flair.brain)
    np.testing.assert_array_equal(t1.lesion, flair.lesion)
    assert not np.allclose(t1.voxels, flair.voxels, atol=20)


def test_only_patients_have_lesions():
    for name, scan in cohort(3, 3).items():
        assert scan.healthy == ("-h" in name)
        assert scan.load().lesion.any() != scan.healthy


def test_a_lesion_changes_the_head_under_its_mask_and_nowhere_else():
    for k in range(4):
        name = f"phantom-p{k:04d}"
        ill, well = person(name, "metastases", spacing=4.0), person(name, spacing=4.0)
        changed = ill.voxels != well.voxels
        edge = ndimage.binary_dilation(ill.lesion, np.ones((3, 3, 3)))
        edge = ndimage.binary_dilation(edge, np.ones((1, 1, 3)))  # the scanner's blur across slices
        assert not changed[~edge].any()
        assert changed[ill.lesion].mean() > 0.99
        assert np.abs(ill.voxels - well.voxels)[ill.lesion].mean() > 8
        assert not ill.lesion[~ill.brain].any()


@pytest.mark.parametrize(("contrast", "sign"), [("t1", -1), ("flair", 1), ("t1_gd", 1)])
def test_metastases_are_dark_on_t1_bright_on_flair_and_take_up_gadolinium(contrast, sign):
    changes = []
    for k in range(6):
        ill, well = (people.load(f"phantom-p{k:04d}", ill, people.Look(0, contrast, 4.0, "core")) for ill in DISEASES)
        parts, count = ndimage.label(ill.lesion)
        changes += (ndimage.mean(ill.voxels - well.voxels, parts, range(1, count + 1)) / well.voxels.max()).tolist()
    assert np.mean(sign * np.array(changes) > 0) > 0.8  # but for what is dead in the middle


def test_sites_are_on_the_border_apart_and_of_allowed_size():
    border = np.argwhere(np.ones((40, 50, 40), bool))[::7]
    known, counts, radii = set(map(tuple, border)), [], []
    for seed in range(40):
        sites = lesions._sites(np.random.default_rng(seed), border, np.full(3, 4.0))
        counts.append(len(sites))
        radii += [radius for _, radius in sites]
        assert all(tuple(centre) in known for centre, _ in sites)
        for k, (centre, radius) in enumerate(sites):
            assert all(np.linalg.norm(centre - other) * 4 > radius + size for other, size in sites[:k])
    assert set(counts) == {1, 2, 3, 4, 5}
    assert 3 <= min(radii) < 4 and 10 < max(radii) <= 12


@pytest.mark.parametrize("radius", [3.0, 6.0, 12.0])
def test_a_lesion_has_its_volume_but_is_no_sphere(radius):
    inside, centre = np.ones((60, 60, 60), bool), np.array([30, 30, 30])
    sphere = np.linalg.norm(np.indices(inside.shape) - 30, axis=0) <= radius
    for seed in range(6):
        mask = lesions.blob(np.random.default_rng(seed), centre, radius, inside, np.ones(3))
        assert mask.sum() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
        overlap = 2 * (mask & sphere).sum() / (mask.sum() + sphere.sum())
        assert 0.6 < overlap < 0.97
        parts, _ = ndimage.label(mask)
        assert np.bincount(parts[mask]).max() > 0.97 * mask.sum()


def painted(contrasts, hollow, seed=0):
    brain = np.zeros((40, 40, 40), bool)
    brain[4:36, 4:36, 20:] = True
    mask = np.linalg.norm(np.indices(brain.shape) - 20, axis=0) <= 9
    head = np.where(brain, 100, 0).astype(np.float32)
    args = (head, mask & brain, brain, np.ones(3), np.random.default_rng(seed), contrasts, hollow)
    return head.copy(), lesions.paint(*args), mask & brain, brain, args[0]


def test_paint_keeps_to_the_mask_the_brain_and_the_contrast():
    for contrasts in ((0.2, 0.3), (-0.3, -0.2)):
        before, after, mask, brain, given = painted(contrasts, 0.0)
        np.testing.assert_array_equal(given, before)
        edge = ndimage.binary_dilation(mask, np.ones((3, 3, 3))) & brain
        np.testing.assert_array_equal(after[~edge], before[~edge])
        inner = ndimage.binary_erosion(mask, iterations=2)
        relative = after[inner].mean() / 100 - 1
        assert contrasts[0] - 0.03 < relative < contrasts[1] + 0.03
        rim = edge & ~mask
        assert 0 < np.abs(after - before)[rim].mean() < 0.5 * np.abs(after - before)[inner].mean()


def test_a_hollow_lesion_has_a_darker_core():
    _, after, mask, _, _ = painted((-0.3, 0.4), 1.0, seed=2)
    depth = ndimage.distance_transform_edt(mask)
    rim, core = after[(depth > 1) & (depth < 2)].mean(), after[depth > 4.5].mean()
    assert core < min(rim, 95)


def test_paint_refuses_contrasts_nobody_could_see():
    with pytest.raises(ValueError, match=r"-0\.05 to 0\.05"):
        painted((-0.05, 0.05), 0.0)


def test_nothing_to_paint_changes_nothing():
    head, nowhere = np.ones((4, 4, 4), np.float32), np.zeros((4, 4, 4), bool)
    after = lesions.paint(head, nowhere, nowhere, np.ones(3), np.random.default_rng(0))
    np.testing.assert_array_equal(after, head)


def test_noise_has_unit_variance_and_does_not_depend_on_the_grid():
    coarse = lesions.smooth_noise(np.random.default_rng(0), (39, 39, 39), np.full(3, 4.0), 12.0, np.full(3, 160.0))
    fine = lesions.smooth_noise(np.random.default_rng(0), (77, 77, 77), np.full(3, 2.0), 12.0, np.full(3, 160.0))
    np.testing.assert_allclose(fine[::2, ::2, ::2], coarse, atol=1e-4)
    assert coarse.std() == pytest.approx(1, abs=0.15)


def test_atrophy_widens_the_fluid_spaces_within_the_same_skull():
    for k in range(4):
        name = f"phantom-p{k:04d}"
        ill, well = person(name, "atrophy"), person(name)
        assert ill.lesion is None
        np.testing.assert_array_equal(ill.brain, well.brain)
        fluid = [(head.voxels[head.brain] < 105).mean() for head in (well, ill)]
        assert 1.05 * fluid[0] < fluid[1] < 3 * fluid[0]


def test_healthy_people_have_bright_vessels(monkeypatch):
    monkeypatch.setattr(
        people, "anatomy_of", anatomy.anatomy_of.__wrapped__
    )  # nothing is kept from before, or for later
    bright = 1.3 * people.INTENSITIES["t1_gd"][1]
    with_vessels = person("phantom-h0000", contrast="t1_gd", spacing=3.0).voxels > bright
    monkeypatch.setattr(anatomy, "vessel_share", lambda rng, places, spacing: np.zeros(places.shape[1]))
    without = person("phantom-h0000", contrast="t1_gd", spacing=3.0).voxels > bright
    assert with_vessels.sum() > 50 and without.sum() < 0.1 * with_vessels.sum()
    assert (with_vessels & mirror(with_vessels)).sum() < 0.5 * with_vessels.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contrast": "t2"}, "contrast='t2'; one of .'flair', 't1', 't1_gd'."),
        ({"spacing": 0.0}, "spacing=0.0; 0.8 to 8.0"),
        ({"spacing": float("nan")}, "spacing=nan"),
        ({"healthy": -1}, "healthy=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_cohorts_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        cohort(**change)
