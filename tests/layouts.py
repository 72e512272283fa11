"""Writes miniature releases in the layouts of the real ones; the same arguments give the same files."""

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from scipy import ndimage

from symnorm_jax.geometry import picture

CENTRES = ("CS", "DU", "FG", "HT")
SITES = ("HH", "Guys", "IOP")


def head(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A head `[X, Y, Z]` in 0..1 of nose, scalp, skull, ventricles and uneven tissue; and its brain, bool."""
    rng = np.random.default_rng(seed)
    bend = rng.uniform(0.95, 1.05, 3)

    def ellipsoid(centre, radii):
        return _ellipsoid(shape, centre, radii * bend)

    noise = rng.standard_normal(shape)
    texture = ndimage.gaussian_filter(noise, 0.04 * np.array(shape))  # left and right differ
    brain = ellipsoid((0, 0, 0.1), (0.62, 0.76, 0.75))
    fluid = ellipsoid((-0.1, 0, 0.1), (0.05, 0.25, 0.2)) | ellipsoid((0.1, 0, 0.1), (0.05, 0.22, 0.2))
    voxels = 0.8 * (ellipsoid((0, 0, 0), (0.8, 0.9, 0.97)) | ellipsoid((0, 0.85, -0.5), (0.1, 0.12, 0.2)))
    voxels[ellipsoid((0, 0, 0.1), (0.7, 0.82, 0.83))] = 0.1
    voxels[brain] = 0.5 + 0.1 * (texture / texture.std())[brain]
    voxels[brain & fluid] = 0.15
    return np.clip(voxels + 0.01 * rng.random(shape), 0, 1), brain


def write_lgg(root: Path, patients: int = 4, size: int = 64, slices: int = 12, seed: int = 0) -> Path:
    """Patients with a bright lesion in some slices; the last one's T1 post copies FLAIR. Returns `root`."""
    for i in range(patients):
        name = f"TCGA_{CENTRES[i % len(CENTRES)]}_{4900 + i}_{20010100 + i}"
        flair, brain = head((size, size, slices), seed + i)
        lesion = brain & _ellipsoid(flair.shape, centre=((-1) ** i * 0.3, 0.1, 0.1), radii=(0.2, 0.25, 0.3))
        flair = np.where(lesion, 0.9, flair)
        t1_pre, t1_post = np.where(brain, 0.8 - 0.6 * flair, flair), np.where(lesion, 0.7, flair)
        rgb = np.stack([t1_pre, flair, flair if i == patients - 1 else t1_post], -1)
        (root / name).mkdir(parents=True)
        for k in range(slices):
            Image.fromarray(_bytes(picture(rgb[:, :, k]))).save(root / name / f"{name}_{k + 1}.tif")
            Image.fromarray(_bytes(picture(lesion[:, :, k]))).save(root / name / f"{name}_{k + 1}_mask.tif")
    return root


def write_ixi(
    root: Path, people: int = 6, size: int = 48, labels: bool = True, participants: bool = True, seed: int = 0
) -> Path:
    """Heads stored P-S-R over a field of 240 x 240 x 180 mm, with or without label maps. Returns `root`."""
    rows = ["participant_id\tage\tsex"]
    for i in range(people):
        name = f"IXI{12 + 3 * i:03d}-{SITES[i % len(SITES)]}-{1211 + i}"
        voxels, brain = head((3 * size // 4, size, size), seed + i)
        _write(root / "IXI-T1" / f"{name}-T1.nii.gz", _bytes(voxels), 240.0 / size, "PSR")
        if labels:
            _write(root / "DLMUSE" / f"{name}-T1_DLMUSE.nii.gz", _labels(brain), 240.0 / size, "PSR")
        rows.append(f"{name}\t{20 + 5 * i}.5\t{'MF'[i % 2]}")
    if participants:
        (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


def write_table(folder: Path, people: int = 20, size: int = 40) -> Path:
    """Heads with brain masks, every third with a lesion, listed in `folder / "scans.csv"`, which is returned."""
    lines = ["path,patient,label,brain_path,lesion_path,site"]
    for i in range(people):
        voxels, brain = head((size, size, size), 50 + i)
        lesion = brain & _ellipsoid(voxels.shape, centre=(0.3, 0.1, 0.1), radii=(0.25, 0.25, 0.25))
        ill = i % 3 == 2
        _write(folder / "t1" / f"{i}.nii.gz", _bytes(np.where(lesion & ill, 0.9, voxels)), 200.0 / size, "RAS")
        _write(folder / "brain" / f"{i}.nii.gz", brain.astype(np.uint8), 200.0 / size, "RAS")
        _write(folder / "lesion" / f"{i}.nii.gz", lesion.astype(np.uint8), 200.0 / size, "RAS")
        drawn = f"abnormal,brain/{i}.nii.gz,lesion/{i}.nii.gz" if ill else f"healthy,brain/{i}.nii.gz,"
        lines.append(f"t1/{i}.nii.gz,person{i},{drawn},here")
    (folder / "scans.csv").write_text("\n".join(lines) + "\n")
    return folder / "scans.csv"


def write_lesion_masks(folder: Path, n: int, spacing: float = 3.0, seed: int = 0) -> Path:
    """`n` lesions of about 5 to 60 ml in MNI space, each of its own shape, stored L-A-S. Returns `folder`."""
    rng = np.random.default_rng(seed)
    low, high = np.array([-78.0, -112.0, -50.0]), np.array([78.0, 76.0, 85.0])
    shape = tuple(((high - low) / spacing).astype(int) + 1)
    position = np.moveaxis(np.indices(shape), 0, -1) * spacing + low
    for i in range(n):
        centre = rng.uniform([15, -60, -10], [40, 30, 45]) * [rng.choice([-1, 1]), 1, 1]
        distance = np.linalg.norm((position - centre) / rng.uniform(10, 24, 3), axis=-1)
        _write(folder / f"sub-{i}_lesion.nii.gz", (distance <= 1).astype(np.uint8), spacing, "LAS", low)
    return folder


def _ellipsoid(shape, centre, radii) -> np.ndarray:
    """Mask of an ellipsoid in an array that spans -1 to 1 along each axis."""
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True)) <= 1


def _bytes(values) -> np.ndarray:
    return np.round(255 * np.asarray(values, float)).astype(np.uint8)


def _labels(brain: np.ndarray) -> np.ndarray:
    """Two regions, one a side, with an unlabelled hole, as label maps have."""
    labels = np.where(np.indices(brain.shape)[0] < brain.shape[0] // 2, 47, 48) * brain
    labels[tuple(length // 2 for length in brain.shape)] = 0
    return labels.astype(np.uint8)


def _write(path: Path, voxels: np.ndarray, spacing: float, axes: str, origin=(-90.0, -126.0, -72.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = origin
    from_ras = nib.orientations.ornt_transform(*map(nib.orientations.axcodes2ornt, ("RAS", axes)))
    nib.save(nib.Nifti1Image(voxels, affine).as_reoriented(from_ras), path)
