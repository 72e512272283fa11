"""Lesions of exactly known shape: where metastases grow, and how a given lesion, drawn or made, looks inside a head.

Arrays are `[X, Y, Z]`, lengths and spacings mm; a contrast is a signed fraction of the intensity of the tissue nearby.
"""

import functools

import numpy as np
from scipy import ndimage

CONTRASTS = (-0.35, 0.45)
# A metastasis is dark to isointense on T1, bright on FLAIR, and takes up gadolinium, usually intensely, as a whole or
# as a rim around what is dead (Fink and Fink 2013, Imaging of brain metastases, Surg Neurol Int).
METASTASIS = {"t1": (-0.35, -0.10), "flair": (0.15, 0.45), "t1_gd": (0.40, 0.80)}
FAINTEST = 0.10  # a lesion of weaker contrast than this would not be drawn by a radiologist either
COUNT = (1, 5)
RADII = (3.0, 12.0)
OEDEMA = {"t1": (-0.22, -0.12), "flair": (0.15, 0.40), "t1_gd": (-0.22, -0.12)}
GRAIN = 0.10

# A glioma, each part against what lies around it: oedema brighter than cortex on FLAIR, living tumour, a dead core.
INFILTRATED = {"t1": (-0.22, -0.12), "flair": (0.25, 0.60), "t1_gd": (-0.22, -0.12)}
TUMOUR = {"t1": (-0.20, -0.10), "flair": (-0.25, -0.10), "t1_gd": (0.40, 0.80)}
NECROSIS = {"t1": (-0.40, -0.20), "flair": (-0.40, -0.15), "t1_gd": (-0.70, -0.50)}
GLIOMA_RADII = (14.0, 26.0)  # mm, 11 to 74 ml without the oedema
RIM = (2.5, 6.0)  # mm, thickness of the living tumour around the dead core

LABELS = {"whole": (1, 2, 3), "core": (1, 3), "enhancing": (3,)}  # of the label maps below: what is drawn as what
CORE, SWELLING, ENHANCING = 1, 2, 3


def smooth_noise(rng: np.random.Generator, shape, spacing, scale: float, extent=None) -> np.ndarray:
    """Draw a random field `[X, Y, Z]` float32 of mean 0 and variance 1 that varies over about `scale` mm.

    Cubic B-splines on control points `scale` mm apart cover `extent` `[3]` mm: grids of one extent see one field.
    """
    extent = np.multiply(shape, spacing) if extent is None else extent
    bases = [_spline_basis(*axis, scale) for axis in zip(shape, spacing, extent, strict=True)]
    field = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    for basis in bases:
        field = np.tensordot(field, basis, axes=(0, 1))  # consumes the first axis, appends the finished one
    return field


def paint(voxels, mask, brain, spacing, rng, contrasts=CONTRASTS, hollow: float = 0.4, core=None) -> np.ndarray:
    """Copy a head `[X, Y, Z]` float32 and replace the tissue under `mask` by one lesion.

    It is brighter or darker than the tissue nearby by a fraction of `contrasts`, mildly uneven, and with probability
    `hollow` has a darker core, of the contrasts `core`, inside a rim. In `brain` alone, the mask and by partial volume
    what touches it change.
    """
    painted = np.array(voxels, dtype=np.float32)
    if not (mask & brain).any():
        return painted
    spacing = np.asarray(spacing, float)
    tissue_floor = 0.6 * np.median(voxels[brain])  # cerebrospinal fluid is dark in every contrast used here
    margin, (box,) = np.ceil(10.0 / spacing).astype(int), ndimage.find_objects(mask.astype(np.uint8))
    window = tuple(slice(max(side.start - pad, 0), side.stop + pad) for side, pad in zip(box, margin, strict=True))
    head, shape = painted[window], mask[window]
    local = _local_tissue(head, brain[window] & (head > tissue_floor), spacing)
    contrast = _lesion_contrast(shape, spacing, rng, contrasts, hollow, core)
    noise = np.clip(head - ndimage.gaussian_filter(head, 1.0), -GRAIN * local, GRAIN * local)
    share = ndimage.gaussian_filter(shape.astype(np.float32), 0.6, truncate=2.0) * brain[window]
    painted[window] = head + share * (local * (1 + contrast) + noise - head)
    return painted


def blob(rng: np.random.Generator, centre, radius: float, within: np.ndarray, spacing) -> np.ndarray:
    """Draw one irregular lesion around voxel `centre`, `[X, Y, Z]` in `within`, as large as a sphere of `radius` mm."""
    spacing = np.asarray(spacing, float)
    centre, reach = np.asarray(centre), np.ceil(2 * radius / spacing).astype(int) + 1
    low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, within.shape)
    window = tuple(map(slice, low, high))
    offsets = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1) - centre
    # nearest by a distance that is uneven in direction and place
    distance = np.linalg.norm(offsets * spacing * np.exp(rng.normal(0, 0.12, 3)), axis=-1)
    distance *= np.exp(0.16 * smooth_noise(rng, distance.shape, spacing, radius))
    distance[~within[window]] = np.inf
    count = max(1, round(4 / 3 * np.pi * radius**3 / spacing.prod()))
    furthest = np.sort(distance, axis=None)[min(count, distance.size) - 1]
    mask = np.zeros(within.shape, bool)
    mask[window] = (distance <= furthest) & np.isfinite(distance)
    return mask


def metastases(voxels, brain, grey, white, spacing, contrast: str, rng) -> tuple[np.ndarray, np.ndarray]:
    """Plant 1 to 5 metastases, some with oedema, where `grey` and `white` meet; return head and labels `[X, Y, Z]`."""
    labels = np.zeros(brain.shape, np.uint8)
    for centre, radius in _sites(rng, np.argwhere(brain & (grey > 0.25) & (white > 0.25)), spacing):
        if radius > 5 and rng.random() < 0.6:
            swelling = blob(rng, centre, radius * rng.uniform(1.3, 1.7), brain, spacing)
            swelling &= (white > 0.5) & (labels == 0)
            voxels = paint(voxels, swelling, brain, spacing, rng, OEDEMA[contrast], hollow=0.0)
            labels[swelling] = SWELLING
        tumour = blob(rng, centre, radius, brain, spacing)
        voxels = paint(voxels, tumour, brain, spacing, rng, METASTASIS[contrast], core=NECROSIS[contrast])
        labels[tumour] = ENHANCING
    return voxels, labels


def glioma(voxels, brain, grey, white, spacing, contrast: str, rng) -> tuple[np.ndarray, np.ndarray]:
    """Plant a large tumour with a dead core and oedema in white matter, as `metastases`; all three labels are in it."""
    spacing = np.asarray(spacing, float)
    places = np.argwhere(brain & (white > 0.5))
    centre, radius = places[rng.integers(len(places))], float(np.exp(rng.uniform(*np.log(GLIOMA_RADII))))
    tumour = blob(rng, centre, radius, brain, spacing)
    # nothing is pushed aside
    swelling = blob(rng, centre, radius * rng.uniform(1.4, 2.0), brain, spacing) & (white > 0.5) | tumour
    depth = ndimage.distance_transform_edt(tumour, sampling=spacing)
    dead = depth > max(rng.uniform(*RIM), spacing.max())
    labels = np.zeros(brain.shape, np.uint8)
    parts = ((swelling, INFILTRATED, SWELLING), (tumour, TUMOUR, ENHANCING), (dead, NECROSIS, CORE))
    for part, contrasts, label in parts:
        voxels = paint(voxels, part, brain, spacing, rng, contrasts[contrast], hollow=0.0)
        labels[part] = label
    return voxels, labels


PLANTED = {"glioma": glioma, "metastases": metastases}


def _sites(rng, border, spacing) -> list[tuple[np.ndarray, float]]:
    """Draw centres (voxels, of `border` `[N, 3]`) and radii (mm) of metastases that keep clear of each other."""
    sites = []
    for _ in range(rng.integers(COUNT[0], COUNT[1] + 1)):
        radius = float(np.exp(rng.uniform(*np.log(RADII))))  # small ones are the most common
        centre = border[rng.integers(len(border))]
        sites.append((centre, radius))
        border = border[np.linalg.norm((border - centre) * spacing, axis=1) > 2 * radius + RADII[1]]
    return sites


def _spline_basis(length: int, spacing: float, extent: float, scale: float) -> np.ndarray:
    """Compute cubic B-splines `[length, control points]`, scaled to unit mean sum of squares."""
    control = np.arange(int(np.ceil(extent / scale)) + 3)
    place = (np.arange(length) - (length - 1) / 2) * spacing / scale
    away = np.abs(place[:, None] - (control - control.mean()))
    basis = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6)
    return (basis / np.sqrt(151 / 315)).astype(np.float32)


def _local_tissue(head, tissue, spacing) -> np.ndarray:
    blur = functools.partial(ndimage.gaussian_filter, sigma=5.0 / spacing, truncate=2.0)  # mm
    total, weight = blur(head * tissue), blur(tissue.astype(np.float32))
    everywhere = head[tissue].mean() if tissue.any() else head.mean()
    return (total + 0.01 * everywhere) / (weight + 0.01)


def _lesion_contrast(shape, spacing, rng, contrasts, hollow, core) -> np.ndarray:
    """Draw a contrast of either sign equally often, no fainter than FAINTEST, and perhaps a darker core."""
    low, high = contrasts
    sides = [(low, min(high, -FAINTEST)), (max(low, FAINTEST), high)]
    sides = [side for side in sides if side[0] <= side[1]]
    if not sides:
        raise ValueError(f"contrasts {low:g} to {high:g} are all fainter than {FAINTEST:g}")
    body = rng.uniform(*sides[rng.integers(len(sides))])
    contrast = body * (1 + 0.2 * smooth_noise(rng, shape.shape, spacing, 4.0))
    rim = rng.uniform(2.0, 3.5)
    core = rng.uniform(*(core or (min(low, -FAINTEST), -FAINTEST)))
    if rng.random() < hollow:
        depth = ndimage.distance_transform_edt(shape, sampling=spacing)
        contrast += np.clip((depth - rim) / spacing.min(), 0, 1) * (min(core, body) - contrast)
    return contrast
