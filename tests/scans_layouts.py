"""Writes small releases of drawn heads in the layout of each source, with the truth that must come back."""

from collections.abc import Callable
from pathlib import Path

import layouts_lesion
import nibabel as nib
import numpy as np
from scans import NAMES, Head, draw_head, mask_values, nifti, pictures
from scans_layouts_standing import adni_caps, adni_loni, adni_slices, ixi, lgg, oasis, open_ms
from scans_release import Person, Release, ending, masks_of, two, write_rows, written

from symnorm_jax.geometry import voxel_sizes


def table(rng, folder: Path) -> Release:
    name, rows, people = str(rng.choice(NAMES)), [["path", "patient", "label", "lesion_path", "brain_path", "site"]], []
    for i, head in enumerate(two(rng)):
        image = nifti(rng, folder / f"t1 {i}{ending(rng)}", head.voxels, head.affine)
        masks = masks_of(rng, folder / f"m{i}", head)
        drawn = str(masks["lesion"].relative_to(folder)) if i else ""
        standing = ("healthy", "abnormal")[i]
        rows.append(
            [image.name, written(rng, f"{name}{i}"), standing, drawn, masks["brain"].relative_to(folder), "a,b"]
        )
        people.append(Person(f"{name}{i}", head, standing, head.lesion if i else None, True))
    parts = {"image": [image], **{kind: [path] for kind, path in masks.items()}}
    parts["table"] = write_rows(rng, folder / "scans.csv", rows)
    return Release("table", folder / "scans.csv", people, parts)


def table_of_pictures(rng, folder: Path) -> Release:
    rows, people = [["path", "patient", "label", "lesion_path", "brain_path", "spacing_mm"]], []
    for i, head in enumerate(two(rng, oblique=False)):
        head = head.to(voxel_sizes(head.affine).round(3))
        suffix, first = rng.choice([".png", ".tif", ".jpg"]), int(rng.integers(0, 12))
        slices = pictures(folder / f"i{i}", head.voxels, "s_{}" + suffix, first, rgb=rng.random() < 0.5, quality=100)
        value = int(rng.choice([1, 255, 7]))
        drawn = pictures(folder / f"l{i}", value * head.lesion, "s_{}.png", first, rgb=rng.random() < 0.3)
        pictures(folder / f"b{i}", value * head.brain, "s_{}.tif", first)
        spacing = ",".join(f"{side:g}" for side in voxel_sizes(head.affine))
        standing = ("healthy", "abnormal")[i]
        rows.append([f"i{i}", f"p{i}", standing, f"l{i}" if i else "", f"b{i}", spacing])
        near = 25 if suffix == ".jpg" else 0.5
        people.append(Person(f"p{i}", head, standing, head.lesion if i else None, True, near))
    parts = {"slices": slices, "drawn": drawn, "table": write_rows(rng, folder / "scans.csv", rows)}
    return Release("table", folder / "scans.csv", people, parts)


def bids(rng, folder: Path) -> Release:
    people, rows, parts = [], [["participant_id", "age", "group"]], {}
    session, end = str(rng.choice(["", "ses-1"])), ending(rng)
    for name, standing, head in zip(
        ("Zoë", "02", "03"), ("healthy", "abnormal", "abnormal"), [*two(rng), draw_head(rng)], strict=True
    ):
        sub, ill = f"sub-{name}", standing == "abnormal"
        on_disk, base = written(rng, sub), folder / "derivatives/drawn"
        stem = f"{on_disk}_{session}_" if session else f"{on_disk}_"
        image = nifti(rng, folder / on_disk / session / "anat" / f"{stem}T1w{end}", head.voxels, head.affine)
        masks = {"brain": base / on_disk / session / "anat" / f"{stem}desc-brain_mask{end}"}
        label = rng.choice(["label-lesion", "desc-lesion", "label-L_desc-T1lesion", "space-orig_label-lesion"])
        masks |= (
            {"lesion": base / on_disk / session / "anat" / f"{stem}{label}_{rng.choice(['mask', 'roi'])}{end}"}
            if ill
            else {}
        )
        for kind, path in masks.items():
            nifti(rng, path, mask_values(rng, getattr(head, kind)), head.affine)
        rows.append(
            [written(rng, sub if rng.random() < 0.5 else name), "n/a", "Control" if standing == "healthy" else "stroke"]
        )
        people.append(
            Person("/".join(filter(None, (sub, session))), head, standing, head.lesion if ill else None, True)
        )
    parts = {"image": [image], **{kind: [path] for kind, path in masks.items()}}
    parts["table"] = write_rows(rng, folder / "participants.tsv", rows, "\t")
    return Release("bids", folder, people, parts)


def atlas(rng, folder: Path) -> Release:
    people, options = (
        [],
        {"nested": True, "masks": ".", "standing": "masks", "group_column": "", "site": r"sub-(r\d+)s\d+"},
    )
    for i in range(2):
        head, name = draw_head(rng, oblique=False), f"sub-r00{i}s001"
        anat = folder / f"ATLAS_2/Training/R00{i}" / name / "ses-1/anat"
        stem = f"{name}_ses-1_space-MNI152NLin2009aSym"
        image = nifti(rng, anat / f"{stem}_T1w.nii.gz", head.voxels, head.affine)
        mask = mask_values(rng, head.lesion)
        lesion = nifti(rng, anat / f"{stem}_label-L_desc-T1lesion_mask.nii.gz", mask, head.affine)
        people.append(Person(f"{name}/ses-1", head, "abnormal", head.lesion))
    return Release("bids", folder, people, {"image": [image], "lesion": [lesion]}, options, "head")


def mets_volumes(rng, folder: Path) -> Release:
    people = []
    for i in range(2):
        head, case = draw_head(rng, stripped=True), folder / "brainmetshare-3/train" / f"Mets_00{i}"
        end = ending(rng)
        image = nifti(rng, case / f"t1_gd{end}", head.voxels, head.affine)
        lesion = nifti(rng, case / f"seg{end}", mask_values(rng, head.lesion), head.affine)
        people.append(Person(case.name, head, "abnormal", head.lesion))
    return Release("brainmetshare", folder, people, {"image": [image], "lesion": [lesion]}, {}, "nonzero")


def mets_pictures(rng, folder: Path) -> Release:
    people = []
    for i in range(2):
        head = draw_head(rng, stripped=True, oblique=False).to((0.94, 0.94, 1.0))
        case, first = (
            folder / "stanford_release_brainmask/mets_stanford_releaseMask_train" / f"Mets_00{i}",
            int(rng.integers(0, 12)),
        )
        slices = pictures(case / "2", head.voxels, "{}.png", first, rgb=rng.random() < 0.5)
        drawn = pictures(case / "seg", int(rng.choice([1, 255])) * head.lesion, "{}.png", first)
        people.append(Person(case.name, head, "abnormal", head.lesion))
    return Release("brainmetshare", folder, people, {"slices": slices, "drawn": drawn}, {}, "nonzero")


def _brats(rng, folder: Path, names: tuple[str, ...], pieces: tuple[str, str], enhancing: int) -> Release:
    people, wanted = [], str(rng.choice(["whole", "core"]))
    for name in names:
        head, end = draw_head(rng, stripped=True), ending(rng)
        labels = np.where(head.lesion, rng.choice([1, 2, enhancing], head.shape), 0)
        lesion = head.lesion if wanted == "whole" else head.lesion & (labels != 2)
        image = nifti(rng, folder / name / f"{name}{pieces[0]}{end}", head.voxels, head.affine)
        seg = nifti(rng, folder / name / f"{name}{pieces[1]}{end}", labels, head.affine)
        number = name.split("-")[3:]
        people.append(
            Person("/".join([name.rpartition("-")[0] if number else name, *number]), head, "abnormal", lesion)
        )
    return Release("brats", folder, people, {"image": [image], "labels": [seg]}, {"labels": wanted}, "nonzero")


def brats(rng, folder: Path) -> Release:
    return _brats(rng, folder, ("BraTS-GLI-00001-000", "BraTS-GLI-00002-001"), ("-t1c", "-seg"), 3)


def brats_2021(rng, folder: Path) -> Release:
    return _brats(rng, folder, ("BraTS2021_00001", "BraTS2021_00002"), ("_t1ce", "_seg"), 4)


def dicom(rng, folder: Path) -> Release:
    people, rows = [], [["folder", "patient", "label", "lesion_path", "brain_path"]]
    for i, head in enumerate(two(rng)):
        series, affine = write_series(rng, folder / f"s{i}", head)
        head = head._replace(affine=affine)
        masks = masks_of(rng, folder / f"m{i}", head)
        standing = ("healthy", "abnormal")[i]
        drawn = [masks["lesion"].relative_to(folder) if i else "", masks["brain"].relative_to(folder)]
        rows.append([f"s{i}", written(rng, f"Zoë{i}"), standing, *drawn])
        people.append(Person(f"Zoë{i}", head, standing, head.lesion if i else None, True))
    parts = {"series": series, **{kind: [path] for kind, path in masks.items()}}
    return Release("dicom", folder, people, parts | {"table": write_rows(rng, folder / "scans.csv", rows)})


def write_series(rng, folder: Path, head: Head) -> tuple[list[Path], np.ndarray]:
    """Store a head as DICOM slices in any order and direction of its axes; the files, and the affine they give."""
    from pydicom.uid import generate_uid

    turn = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], 1)
    stored = nib.apply_orientation(head.voxels, turn)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine @ nib.orientations.inv_ornt_aff(turn, head.shape)
    sizes, series, paths = voxel_sizes(affine), generate_uid(), []
    folder.mkdir(parents=True)
    names = rng.permutation(stored.shape[2])
    for k in range(stored.shape[2]):
        position, along = affine[:3] @ [0, 0, k, 1], affine[:3, :2] / sizes[:2]
        one = layouts_lesion._slice(stored[:, :, k].T, position.round(6), along.T.ravel(), series, 2 ** (k % 3))
        one.PixelSpacing, one.InstanceNumber = [float(sizes[1]), float(sizes[0])], k + 1
        paths.append(folder / f"IM{names[k]:04d}")
        one.save_as(paths[-1], enforce_file_format=True)
    return paths, head.affine


def folder(rng, root: Path) -> Release:
    people = []
    for i, head in enumerate(two(rng)):
        name = ("sub-01_ses-2_T1w", "scan")[i]
        image = nifti(rng, root / f"{name}{ending(rng)}", head.voxels, head.affine)
        people.append(Person(("sub-01/ses-2", "scan")[i], head, "unlabelled"))
    return Release("folder", root, people, {"image": [image]}, {}, "head")


LAYOUTS: tuple[Callable[[np.random.Generator, Path], Release], ...] = (
    *(adni_caps, adni_loni, adni_slices, atlas, bids, mets_pictures, mets_volumes, brats, brats_2021, dicom, folder),
    *(ixi, lgg, oasis, open_ms, table, table_of_pictures),
)
