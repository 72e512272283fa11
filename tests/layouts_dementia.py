"""Writes miniature releases of ADNI and OASIS-1 in their layouts; everyone has a bright mark on the left."""

from pathlib import Path

import nibabel as nib
import numpy as np
from layouts import _bytes, _write, head
from PIL import Image

from symnorm_jax.geometry import picture

SIZE = (12, 16, 10)
CAPS_NAME = "space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"
COLLECTION = "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded"
CROSS_SECTIONAL = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"


def marked_head(seed: int = 0, size: tuple[int, int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A brain without skull, 0 around it, its left front top marked with 1; and the mark's mask."""
    voxels, brain = head(size, seed)
    mark = brain & (np.indices(size) >= np.reshape([0, size[1] // 2, size[2] // 2], (3, 1, 1, 1))).all(0)
    mark[size[0] // 3 :] = False
    voxels = np.where(brain, 0.2 + 0.5 * voxels, 0)
    return np.where(mark, 1, voxels), mark


def write_loni(root: Path, images: list[tuple[str, str, str, str, str]], axes: str = "PSR") -> Path:
    """One file each of (person, description, day and time, last folder, end of the file's name), under `root/ADNI`."""
    for i, (person, description, day, last, end) in enumerate(images):
        path = root / "ADNI" / person / description / day / last / f"ADNI_{person}_MR_{description}_br_raw_{end}"
        _write(path, (1000 * marked_head(i)[0]).astype(np.int16), 1.2, axes)
    return root


def write_collection(path: Path, rows: list[tuple[str, str, str, str]], header: str = COLLECTION) -> Path:
    """A collection's table with a line for each (image, person, group, visit)."""
    lines = [
        f'"{i}","{who}","{group}","F","71","{visit}","MRI","x","","1/2/2010","NiFTI",""'
        for i, who, group, visit in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def write_caps(root: Path, sessions: list[tuple[str, str, str]], tail: str = CAPS_NAME) -> Path:
    """One image each of (participant, session, diagnosis), a tensor twin, and `labels.tsv` with the diagnoses."""
    lines = ["participant_id\tsession_id\tdiagnosis\tage\tsex"]
    for i, (person, session, diagnosis) in enumerate(sessions):
        folder = root / "subjects" / person / session
        _write(folder / "t1_linear" / f"{person}_{session}_{tail}", marked_head(i)[0].astype(np.float32), 1.0, "RAS")
        twin = folder / "deeplearning_prepare_data/image_based/t1_linear" / f"{person}_{session}_{tail[:-7]}.pt"
        twin.parent.mkdir(parents=True)
        twin.write_bytes(b"never read")
        lines.append(f"{person}\t{session}\t{diagnosis}\t70.5\tF")
    (root / "labels.tsv").write_text("\n".join(lines) + "\n")
    return root


def write_pictures(folder: Path, person: str, slices: range, seed: int = 0, name: str = "{}_{}.jpeg") -> Path:
    """Axial slices of a person, 24 x 32 pixels, each with a grey ripple in its black, as JPEG leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels, _ = marked_head(seed, (24, 32, 40))
    for k in slices:
        rows = _bytes(picture(voxels[:, :, 5 + k % 30])).copy()
        rows[0, ::2] = 11
        Image.fromarray(rows).save(folder / name.format(person, k), quality=95)
    return folder


def write_oasis(root: Path, sessions: list[tuple[str, str, str]], table: str = "oasis_cross-sectional.csv") -> Path:
    """One big-endian Analyze pair each of (session, age, CDR), `[X, Y, Z, 1]` from right to left, and the table."""
    lines = [CROSS_SECTIONAL]
    for i, (session, age, cdr) in enumerate(sessions):
        path = root / session / "PROCESSED/MPRAGE/T88_111" / f"{session}_mpr_n{3 + i % 3}_anon_111_t88_masked_gfc.img"
        write_analyze(path, (1000 * marked_head(i)[0]).astype(np.int16))
        lines.append(f"{session},F,R,{age},2,3,29,{cdr},1344,0.743,1.306,N/A")
    if table:
        (root / table).write_text("\n".join(lines) + "\n")
    return root


def write_analyze(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nib.AnalyzeHeader(endianness=">")
    header.set_data_dtype(voxels.dtype)
    nib.save(nib.AnalyzeImage(voxels[::-1, :, :, None], None, header), path)


def write_neurite(root: Path, session: str) -> Path:
    """One image of neurite-oasis, stored L-I-A."""
    _write(root / f"OASIS_{session}" / "aligned_norm.nii.gz", marked_head()[0].astype(np.float32), 1.0, "LIA")
    return root
