"""Writes miniature releases of people with lesions, and of anybody's own scans; a bright lesion marks the left."""

from pathlib import Path

import numpy as np
from layouts import _write, head
from PIL import Image

from symnorm_jax.geometry import picture

SHAPE = (20, 24, 16)
SPACING = 8.0
OPEN_MS = {"FLAIR": 0, "T1W": 1, "T1WKS": 2, "T2W": 3}
IN_MNI = {"FLAIR": 0, "T1": 1, "T1POST": 2, "T2": 3}
IN_MNI_STEM = "N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI"
NOBODY = "Zebra^Quagga"  # the name in every DICOM header


def person(seed: int, channel: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head `[X, Y, Z]` uint8 (darker by channel), its brain and a lesion of value 250 on the person's left."""
    voxels, brain = head(SHAPE, seed)
    lesion = np.zeros(SHAPE, bool)
    lesion[4:7, 10:14, 6:10] = True
    voxels = np.round(voxels * (220 - 40 * channel)).astype(np.uint8)
    return np.where(lesion, 250, voxels).astype(np.uint8), brain, lesion


def write(path: Path, voxels: np.ndarray, axes: str = "LPS") -> Path:
    """A NIfTI file stored in the order `axes`; masks become uint8."""
    _write(path, voxels.astype(np.uint8) if voxels.dtype == bool else voxels, SPACING, axes)
    return path


def write_open_ms(root: Path, patients: int = 3) -> Path:
    """All four versions of each patient; in `raw`, only FLAIR has the grid of the lesions. Returns `root`."""
    top = root / "cross_sectional"
    for i in range(1, patients + 1):
        name = f"patient{i:02d}"
        _, brain, lesion = person(i)
        for stem, channel in OPEN_MS.items():
            voxels = person(i, channel)[0]
            write(top / "raw" / name / f"{stem}.nii.gz", voxels if channel == 0 else voxels[:, :-2], "RSA")
            for space in ("coregistered", "coregistered_resampled"):
                write(top / space / name / f"{stem}.nii.gz", voxels)
        for stem, channel in IN_MNI.items():
            write(top / "MNI" / name / f"{stem}_{IN_MNI_STEM}.nii.gz", person(i, channel)[0] * brain)
        write(top / "raw" / name / "consensus_gt.nii.gz", lesion, "RSA")
        prefix = f"{name}_" if i == 1 else ""  # as some files of the release are named
        for space in ("coregistered", "coregistered_resampled"):
            write(top / space / name / f"{prefix}consensus_gt.nii.gz", lesion)
            write(top / space / name / f"{prefix}brainmask.nii.gz", brain)
        write(top / "MNI" / name / "GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR_regtoMNI.nii.gz", lesion)
    table = "patient_id,age,sex,ms_type,edss,criteria\n1,31,F,RR,1.5,McDonald 2010\n3,37,F,N/A,N/A,N/A\n"
    (top / "patient_info.csv").write_text(table)
    return root


def write_atlas(root: Path) -> Path:
    """Two cohorts in Training, one person with two sessions, and one in Testing without a mask. Returns `root`."""
    sessions = [("Training", "R001", 1, 1), ("Training", "R001", 2, 1), ("Training", "R001", 2, 2)]
    sessions += [("Training", "R010", 1, 1), ("Testing", "R001", 3, 1)]
    for seed, (part, cohort, number, session) in enumerate(sessions):
        name = f"sub-{cohort.lower()}s{number:03d}"
        stem = f"{name}_ses-{session}_space-MNI152NLin2009aSym"
        folder = root / "ATLAS_2" / part / cohort / name / f"ses-{session}" / "anat"
        voxels, _, lesion = person(seed)
        write(folder / f"{stem}_T1w.nii.gz", voxels.astype(np.float32), "LAS")
        if part == "Training":
            write(folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz", lesion, "LAS")
    (root / "ATLAS_2" / "20220425_ATLAS_2.0_MetaData.xlsx").write_bytes(b"")
    return root


def write_bids(root: Path) -> Path:
    """A control with two runs, a patient with two sessions and masks, and two of whom nobody knows. Returns `root`."""
    voxels, brain, lesion = person(0)
    write(root / "sub-01" / "anat" / "sub-01_run-2_T1w.nii.gz", voxels[:, ::-1])
    write(root / "sub-01" / "anat" / "sub-01_run-1_T1w.nii.gz", voxels)
    write(root / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz", person(0, 1)[0])
    for session in ("ses-1", "ses-2"):
        voxels, brain, lesion = person(10 + int(session[-1]))
        anat = root / "sub-02" / session / "anat"
        write(anat / f"sub-02_{session}_T1w.nii", voxels)
        masks = root / "derivatives" / "manual_masks" / "sub-02" / session / "anat"
        write(masks / f"sub-02_{session}_space-T1w_label-lesion_mask.nii.gz", lesion)
        write(masks / f"sub-02_{session}_space-MNI152NLin6Asym_label-lesion_mask.nii.gz", lesion[:, :-1])
        write(masks / f"sub-02_{session}_desc-lesionAcute_mask.nii.gz", lesion & brain[::-1])
        brains = root / "derivatives" / "fmriprep" / "sub-02" / session / "anat"
        write(brains / f"sub-02_{session}_desc-brain_mask.nii.gz", brain)
        write(brains / f"sub-02_{session}_acq-other_desc-brain_mask.nii.gz", brain)
    for name in ("sub-03", "sub-04"):
        write(root / name / "anat" / f"{name}_T1w.nii.gz", person(3)[0])
    table = "participant_id\tage\tgroup\tslice\nsub-01\t30\tControl\t7\nsub-02\tn/a\tpatient\t7\nsub-03\t50\tn/a\t7\n"
    (root / "participants.tsv").write_text(table)
    return root


def write_pictures(folder: Path, voxels: np.ndarray, suffix: str = ".png", first: int = 8) -> Path:
    """Slices as pictures numbered from `first`, so that their names do not sort as text. Returns `folder`."""
    folder.mkdir(parents=True)
    for k in range(voxels.shape[2]):
        rows = picture(voxels[:, :, k])
        Image.fromarray(rows.astype(np.uint8) * 255 if rows.dtype == bool else rows).save(
            folder / f"s_{first + k}{suffix}"
        )
    return folder


def write_dicom(root: Path, plane: str = "axial", folder: str = "a") -> Path:
    """One series of a person with a mask, its files named against the order of its slices. Returns `root`."""
    voxels, _, lesion = person(1)
    write_series(root / folder, voxels, plane)
    write(root / "lesion.nii.gz", lesion)
    (root / "scans.csv").write_text(f"folder,patient,label,lesion_path,site\n{folder},p1,abnormal,lesion.nii.gz,here\n")
    return root


def write_series(folder: Path, voxels: np.ndarray, plane: str = "axial") -> None:
    """An RAS+ array as DICOM slices of 16 bits, each with a slope of its own, after `_write`'s affine."""
    from pydicom.uid import generate_uid

    columns, rows, slices = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (0, 2, 1)}[plane]
    turned = {"axial": (0, 1), "sagittal": (1, 2), "coronal": (2,)}[plane]  # axes stored from high to low
    sign = np.where(np.isin(np.arange(3), turned), -1.0, 1.0)
    to_lps = np.array([-1.0, -1.0, 1.0])
    oriented = np.flip(voxels, turned).transpose(rows, columns, slices)
    first = np.where(sign < 0, np.array(voxels.shape) - 1, 0)
    series = generate_uid()
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(oriented.shape[2]):
        index = first.copy()
        index[slices] = voxels.shape[slices] - 1 - k if sign[slices] < 0 else k
        position = to_lps * (np.array([-90.0, -126.0, -72.0]) + SPACING * index)
        directions = [*(to_lps * sign * np.eye(3)[columns]), *(to_lps * sign * np.eye(3)[rows])]
        one = _slice(oriented[:, :, k], position, directions, series, slope=2 ** (k % 3))
        one.save_as(folder / f"IM{(7 * k) % 64:04d}", enforce_file_format=True)
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "notes.txt").write_text("not a slice")


def _slice(values: np.ndarray, position, directions, series: str, slope: int):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID = MRImageStorage, generate_uid(), series
    one.PatientName, one.PatientID, one.PatientBirthDate = NOBODY, NOBODY, "19700101"
    one.InstitutionName = one.SeriesDescription = one.StudyID = "Zebra"
    one.Modality, one.InstanceNumber = "MR", 1  # the same number everywhere, so that it can be of no use
    one.Rows, one.Columns = values.shape
    one.PixelSpacing = [SPACING, SPACING]
    one.ImagePositionPatient, one.ImageOrientationPatient = [float(x) for x in position], [float(x) for x in directions]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleSlope, one.RescaleIntercept = str(1 / slope), "-5"
    one.PixelData = ((values.astype(np.int16) + 5) * slope).astype("<i2").tobytes()
    return one
