"""IXI, healthy people scanned at three London hospitals: `IXI-T1/IXI012-HH-1211-T1.nii.gz`, whole heads.

The release has no masks. `DLMUSE/IXI012-HH-1211-T1_DLMUSE.nii.gz`, where it is there, maps brain regions on
the same grid and so gives the brain; `participants.tsv` gives age and sex. Everyone is healthy, but real
stroke lesions, drawn in other people and carried to MNI space, can be planted: abnormal scans, exactly known.
"""

import csv
import itertools
import re
from functools import partial
from pathlib import Path

import numpy as np
from absl import logging
from scipy import ndimage

from symnorm_jax.data.geometry import AXIAL, voxel_sizes
from symnorm_jax.data.sources.lesions import paint
from symnorm_jax.data.volumes import Scan, Volume, read_nifti, read_volume
from symnorm_jax.errors import ConfigError, ScanError

FORMAT = 1  # raise it when the same files would give other voxels
LESION_ML = (1.5, 150.0)  # sizes to choose from, as drawn; a head holds about 3/4 as much as MNI space
MIN_INSIDE = 0.3  # the part of a planted lesion that must lie in the brain
CONTRASTS = (-0.45, -0.15)  # infarcted tissue is dark on T1
MNI_BRAIN = np.array([[-72.5, -107.5, -72.5], [72.5, 73.5, 82.5]])  # mm, around nilearn's MNI152 brain mask
CLOSING_MM = 4.0  # bridges gaps between labelled regions

# Without a label map, the brain is what lies so deep in the head and so far from its top, and no farther to
# the front or back than above the face.
SCALP_MM = 12.0
BRAIN_HEIGHT_MM = 135.0
ABOVE_FACE_MM = 75.0

_NAME = re.compile(r"((IXI(\d+))-(HH|Guys|IOP)-\d+)-T1\.nii\.gz")


def records(root: str, *, lesion_masks: str | None = None, planted: float = 0.4, seed: int = 0) -> list[Scan]:
    """One Scan a person; given a folder of `*_lesion.nii.gz`, from `root`, a fraction `planted` get a lesion.

    Everyone else is healthy. No lesion is used twice. Who gets which is a function of `seed` and the names.
    """
    if not 0 <= planted <= 1:
        raise ConfigError(f"data.options.planted={planted:g}; a fraction from 0 to 1 is allowed.")
    people = _people(Path(root))
    lesions = _assign(list(people), Path(root) / lesion_masks, planted, seed) if lesion_masks else {}
    known = _participants(Path(root) / "participants.tsv")
    return [_scan(Path(root), path, lesions.get(person), seed, known) for person, path in people.items()]


def load(image: str, labels: str | None, lesion: str | None, seed: tuple[int, ...]) -> Volume:
    """A head, its brain where `labels` are given, and the lesion planted in it, if any."""
    volume = read_volume(image, brain=labels)
    spacing = voxel_sizes(volume.affine)
    if labels:
        volume = volume._replace(brain=_solid(volume.brain, spacing))
    if not lesion:
        return volume._replace(lesion=np.zeros(volume.voxels.shape, bool))
    brain = _inner_head(volume.voxels, spacing) if volume.brain is None else volume.brain
    mask = warp_lesion(lesion, brain)
    voxels = paint(volume.voxels, mask, brain, spacing, np.random.default_rng(seed), CONTRASTS)
    return volume._replace(voxels=voxels, lesion=mask)


def warp_lesion(path: str, brain: np.ndarray) -> np.ndarray:
    """A lesion drawn in MNI space as a mask `[X, Y, Z]` within `brain`; the boxes of the brains are matched.

    Raises ScanError where less than MIN_INSIDE of it lies in the brain.
    """
    if not brain.any():
        raise ScanError(f"{path}: the head has 0 voxels of brain; a lesion needs one to lie in.")
    drawn, affine = read_nifti(path)
    to_drawn = np.linalg.inv(affine) @ _to_mni(brain)
    mask = (drawn > 0).astype(np.float32)
    warped = ndimage.affine_transform(mask, to_drawn, output_shape=brain.shape, order=1) > 0.5
    inside = (warped & brain).sum()
    if inside < max(1, MIN_INSIDE * warped.sum()):
        raise ScanError(f"{path}: {inside} of {warped.sum()} voxels lie in the brain; {MIN_INSIDE:.0%} must.")
    return warped & brain


def _to_mni(brain: np.ndarray) -> np.ndarray:
    """Voxel of an RAS+ head to mm in MNI space, `[4, 4]`, along the head's own axes."""
    extents = [np.flatnonzero(brain.any(other))[[0, -1]] for other in ((1, 2), (0, 2), (0, 1))]
    low, high = np.transpose(extents) + [[-0.5], [0.5]]
    scale = (MNI_BRAIN[1] - MNI_BRAIN[0]) / (high - low)
    affine = np.diag([*scale, 1.0])
    affine[:3, 3] = MNI_BRAIN[0] - scale * low
    return affine


def _people(root: Path) -> dict[str, Path]:
    """The image of each person, by number; the first where the same person comes twice."""
    if not root.is_dir():
        raise ScanError(f"{root}: not a folder; the one that holds IXI-T1 is needed.")
    folder = root / "IXI-T1"
    files = folder.rglob("*") if folder.is_dir() else root.iterdir()
    found = [path for path in files if _NAME.fullmatch(path.name)]
    if not found:
        layout = "IXI-T1/IXI<number>-<HH|Guys|IOP>-<number>-T1.nii.gz"
        raise ScanError(f"{root}: 0 heads; the layout must be {layout}.")
    people = {}
    for path in sorted(found, key=lambda path: (path.name, str(path))):
        people.setdefault(_NAME.fullmatch(path.name)[2], path)
    if len(people) < len(found):
        second = len(found) - len(people)
        logging.warning("%s: left out %d of %d heads, each a person's second.", root, second, len(found))
    return people


def _assign(people: list[str], folder: Path, planted: float, seed: int) -> dict[str, str]:
    """The lesion file of each person who receives one; only as many files are read as are needed."""
    if not folder.is_dir():
        raise ScanError(
            f"{folder}: not a folder; data.options.lesion_masks must name one, from data.root, or be empty."
        )
    rng = np.random.default_rng(seed)
    chosen = [people[i] for i in rng.permutation(len(people))[: round(planted * len(people))]]
    files = sorted(folder.glob("*_lesion.nii.gz"))
    suitable = (str(files[i]) for i in rng.permutation(len(files)) if _is_suitable(files[i]))
    lesions = list(itertools.islice(suitable, len(chosen)))
    if len(lesions) < len(chosen):
        low, high = LESION_ML
        raise ScanError(
            f"{folder}: {len(lesions)} of {len(files)} *_lesion.nii.gz files hold {low:g} to {high:g} ml; "
            f"planted={planted:g} of {len(people)} people needs {len(chosen)}, one a person."
        )
    return dict(zip(chosen, lesions, strict=True))


def _is_suitable(path: Path) -> bool:
    try:
        drawn, affine = read_nifti(path)
    except ScanError as error:
        logging.warning("a lesion mask is left out: %s", error)
        return False
    millilitres = (drawn > 0).sum() * voxel_sizes(affine).prod() / 1000
    return LESION_ML[0] <= millilitres <= LESION_ML[1]


def _participants(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8-sig") as stream:
        table = csv.DictReader(stream, delimiter="\t")
        if not {"participant_id", "age", "sex"} <= set(table.fieldnames or ()):
            raise ScanError(
                f"{path}: columns {table.fieldnames}; participant_id, age and sex, tab-separated, are needed."
            )
        return {row["participant_id"]: {key: row[key] for key in ("age", "sex") if row[key]} for row in table}


def _scan(root: Path, path: Path, lesion: str | None, seed: int, known: dict[str, dict[str, str]]) -> Scan:
    participant, person, number, site = _NAME.fullmatch(path.name).groups()
    labels = root / "DLMUSE" / f"{participant}-T1_DLMUSE.nii.gz"
    labels = str(labels) if labels.is_file() else None
    return Scan(
        patient=person,
        session="",
        healthy=lesion is None,
        load=partial(load, str(path), labels, lesion, (seed, int(number))),
        files=(str(path),),
        extras=tuple(file for file in (labels, lesion) if file),
        recipe=f"ixi format {FORMAT}" + (f", lesion painted with seed {seed}" if lesion else ""),
        groups={"site": site} | known.get(participant, {}),
    )


def _solid(labelled: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The brain without the gaps between its regions: closed, and its holes filled."""
    steps = max(1, round(CLOSING_MM / spacing.min()))
    padded = np.pad(labelled, steps + 1)  # closing would eat into a brain that touches the edge of the array
    closed = ndimage.binary_closing(padded, iterations=steps)
    return ndimage.binary_fill_holes(closed)[(slice(steps + 1, -steps - 1),) * 3]


def _inner_head(voxels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Roughly the brain of a head `[X, Y, Z]`, found on a 3 mm grid: good for its box, coarse at its base."""
    step = max(1, round(3.0 / spacing.min()))
    coarse, size = voxels[::step, ::step, ::step], spacing * step
    regions, _ = ndimage.label(coarse > coarse.mean())
    head = regions == 1 + np.bincount(regions.ravel(), minlength=2)[1:].argmax()
    head = np.stack([ndimage.binary_fill_holes(slice_) for slice_ in np.moveaxis(head, AXIAL, 0)], axis=AXIAL)
    inner = ndimage.distance_transform_edt(head, sampling=size) > SCALP_MM
    if not inner.any():
        return np.zeros(voxels.shape, bool)
    top = np.flatnonzero(inner.any((0, 1)))[-1] + 1
    inner[:, :, : max(0, top - round(BRAIN_HEIGHT_MM / size[AXIAL]))] = False
    face = max(0, top - round(ABOVE_FACE_MM / size[AXIAL]))
    inner &= inner[:, :, face:].any((0, 2))[:, None]
    return inner[np.ix_(*(np.arange(length) // step for length in voxels.shape))]
