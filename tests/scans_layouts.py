"""Writes small releases of drawn heads in the layout of each source, with the truth that must come back."""

import csv
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import layouts_lesion
import nibabel as nib
import numpy as np
from scans import NAMES, Head, draw_head, mask_values, nifti, pictures

from symnorm_jax.geometry import voxel_sizes


class Person(NamedTuple):
    """The scan of one person, as it must come back."""

    name: str  # patient, or patient/session
    head: Head
    standing: str  # healthy, abnormal or unlabelled
    lesion: np.ndarray | None = None  # [X, Y, Z] bool; None where the source has no mask of it
    brain: bool = False  # there is a mask of the brain
    near: float = 1.5  # by which values of the image may be off


class Release(NamedTuple):
    """A release on disk. `parts` are the files of its last person, who is ill or the like of it, by what they are."""

    source: str
    root: Path
    people: list[Person]
    parts: dict[str, list[Path]]  # image, lesion, brain: NIfTI; slices, drawn: pictures; series; table
    options: dict = {}
    brain: str = "file"  # data.brain


def two(rng, **kinds) -> list[Head]:
    """A head without a lesion and one with."""
    return [draw_head(rng, ill=False, **kinds), draw_head(rng, **kinds)]


def ending(rng) -> str:
    return rng.choice([".nii", ".nii.gz"])


def write_rows(rng, path: Path, rows: list[list], delimiter: str = ",") -> list[Path]:
    """Write a table as one of the programs does that people use: with a byte order mark, CRLF, quotation marks."""
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if rng.random() < 0.3 else csv.QUOTE_MINIMAL
    lines = rng.choice(["\n", "\r\n"])
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=lines).writerows(rows)
    path.write_bytes(text.getvalue().encode(rng.choice(["utf-8", "utf-8-sig"])))
    return [path]


def written(rng, name: str) -> str:
    """A name as this or that file system writes its umlauts."""
    return unicodedata.normalize(rng.choice(["NFC", "NFD"]), name)


def masks_of(rng, folder: Path, head: Head, brain: bool = True) -> dict[str, Path]:
    kinds = {"lesion": head.lesion} | ({"brain": head.brain} if brain else {})
    ends = {kind: f"{kind} {ending(rng)}" for kind in kinds}
    return {kind: nifti(rng, folder / ends[kind], mask_values(rng, mask), head.affine) for kind, mask in kinds.items()}


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


def ixi(rng, folder: Path) -> Release:
    people, rows, named = [], [["participant_id", "age", "sex"]], rng.random() < 0.5
    for i in range(2):
        head, name = draw_head(rng, ill=False), f"IXI01{i}-{rng.choice(['HH', 'Guys', 'IOP'])}-120{i}"
        image = nifti(rng, (folder / "IXI-T1" if named else folder) / f"{name}-T1.nii.gz", head.voxels, head.affine)
        labels = np.where(np.indices(head.shape)[0] < head.shape[0] // 2, 47, 48) * head.brain
        brain = nifti(rng, folder / "DLMUSE" / f"{name}-T1_DLMUSE.nii.gz", labels, head.affine)
        rows.append([name, "30", "F"])
        people.append(Person(f"IXI01{i}", head, "healthy", head.lesion, True))
    parts = {"image": [image], "regions": [brain], "table": write_rows(rng, folder / "participants.tsv", rows, "\t")}
    return Release("ixi", folder, people, parts)


def lgg(rng, folder: Path) -> Release:
    people, channel = [], str(rng.choice(["t1_pre", "flair", "t1_post"]))
    for i in range(2):
        head, name = draw_head(rng, oblique=False), f"TCGA_CS_490{i}_2000010{i}"
        head = head.to((240 / head.shape[0], 240 / head.shape[0], 150 / head.shape[2]))
        others = [head.voxels if channel == one else head.voxels // 2 for one in ("t1_pre", "flair", "t1_post")]
        slices = pictures(folder / name, np.stack(others, -1), name + "_{}.tif")
        drawn = pictures(folder / name, 255 * head.lesion, name + "_{}_mask.tif")
        people.append(Person(f"TCGA_CS_490{i}/2000010{i}", head, "abnormal", head.lesion))
    return Release("lgg", folder, people, {"colours": slices, "drawn": drawn}, {"channel": channel}, "head")


def oasis(rng, folder: Path) -> Release:
    people, rows, neurite = [], [["ID", "M/F", "Age", "CDR"]], rng.random() < 0.5
    for i, head in enumerate(two(rng, stripped=True, oblique=False)):
        name = f"OAS1_000{i}_MR1"
        if neurite:
            image = nifti(rng, folder / f"OASIS_{name}" / "aligned_norm.nii.gz", head.voxels, head.affine)
        else:
            head = head.to(voxel_sizes(head.affine).astype(np.float32))
            image = folder / "disc1" / name / "PROCESSED/MPRAGE/T88_111" / f"{name}_mpr_n4_anon_111_t88_masked_gfc.img"
            _analyze(rng, image, head)
        rows.append([name, "F", "70", str(rng.choice(["0", "0.0"]) if i == 0 else rng.choice(["0.5", "1", "2.0"]))])
        people.append(Person(name.replace("_MR", "/MR"), head, ("healthy", "abnormal")[i]))
    parts = {"image" if neurite else "analyze": [image]}
    parts["table"] = write_rows(rng, folder / "oasis_cross-sectional.csv", rows)
    return Release("oasis", folder, people, parts, {}, "nonzero")


def _analyze(rng, path: Path, head: Head) -> None:
    path.parent.mkdir(parents=True)
    header = nib.AnalyzeHeader(endianness=rng.choice(["<", ">"]))
    header.set_data_dtype(np.int16)
    header.set_data_shape((*head.shape, 1))
    header.set_zooms((*voxel_sizes(head.affine), 1))
    nib.save(nib.AnalyzeImage(head.voxels.astype(np.int16)[::-1, :, :, None], None, header), path)


def open_ms(rng, folder: Path) -> Release:
    people, space = [], str(rng.choice(["raw", "coregistered", "coregistered_resampled", "MNI"]))
    top, mni = folder / "cross_sectional", space == "MNI"
    for i in (1, 2):
        head, name = draw_head(rng, stripped=mni), f"patient{i:02d}"
        prefix = str(rng.choice(["", f"{name}_"])) if not mni else ""
        tail = "_N4_regtoMNI" if mni else ""
        image = nifti(rng, top / space / name / f"{prefix}FLAIR{tail}.nii.gz", head.voxels, head.affine)
        stem = "GOLD_STANDARD" if mni else "consensus_gt"
        lesion = nifti(
            rng, top / space / name / f"{prefix}{stem}{tail}.nii.gz", mask_values(rng, head.lesion), head.affine
        )
        masked = space.startswith("co")
        if masked:
            brain = nifti(
                rng, top / space / name / f"{prefix}brainmask.nii.gz", mask_values(rng, head.brain), head.affine
            )
        people.append(Person(name, head, "abnormal", head.lesion, masked))
    parts = {"image": [image], "lesion": [lesion]} | ({"brain": [brain]} if masked else {})
    options = {"space": {"coregistered_resampled": "resampled", "MNI": "mni"}.get(space, space)}
    return Release("open_ms", folder, people, parts, options, "file" if masked else "nonzero" if mni else "head")


def adni_loni(rng, folder: Path) -> Release:
    people, rows = [], [["Image Data ID", "Subject", "Group", "Sex", "Age"]]
    for i, head in enumerate(two(rng)):
        who, number, end = f"00{i}_S_041{i}", f"1000{i}", ending(rng)
        day = folder / "ADNI" / who / "MPRAGE" / f"2006-05-0{i + 1}_12_31_52.0"
        last = rng.choice([f"S1389{i}", f"I{number}"])
        image = nifti(rng, day / last / f"ADNI_{who}_MR_MPRAGE_br_raw_I{number}{end}", head.voxels, head.affine)
        rows.append([rng.choice([number, f"I{number}"]), who, ("CN", "AD")[i], "F", "70"])
        people.append(Person(f"{who}/2006-05-0{i + 1}", head, ("healthy", "abnormal")[i]))
    table = write_rows(rng, folder / rng.choice(["", "ADNI"]) / "collection.csv", rows)
    return Release("adni", folder, people, {"image": [image], "table": table}, {"layout": "loni"}, "head")


def adni_caps(rng, folder: Path) -> Release:
    people, rows = [], [["participant_id", "session_id", "diagnosis", "age"]]
    for i, head in enumerate(two(rng)):
        who, session = f"sub-ADNI00{i}S0001", str(rng.choice(["ses-M000", "ses-M00"]))
        path = folder / "subjects" / who / session / "t1_linear"
        crop = rng.choice(["", "_desc-Crop"])
        path = path / f"{who}_{session}_space-MNI152NLin2009cSym{crop}_res-1x1x1_T1w{ending(rng)}"
        image = nifti(rng, path, head.voxels, head.affine)
        rows.append([who, rng.choice(["ses-M000", "ses-M00"]), ("CN", "AD")[i], "70"])
        people.append(Person(f"{who}/{session}", head, ("healthy", "abnormal")[i]))
    table = write_rows(rng, folder / "labels.tsv", rows, "\t")
    return Release("adni", folder, people, {"image": [image], "table": table}, {"layout": "caps"}, "head")


def adni_slices(rng, folder: Path) -> Release:
    people, end, base = [], str(rng.choice([".jpeg", ".png"])), folder / "AD_NC"
    for i, head in enumerate(two(rng, stripped=True, oblique=False)):
        head, first = head.to((1, 1, 1)), int(rng.integers(0, 12))
        cn, who = str(rng.choice(["NC", "CN"])), f"21839{i}"
        here = base / str(rng.choice(["train", "test"])) / (cn, "AD")[i]
        slices = pictures(here, head.voxels, f"{who}_{{}}{end}", first, quality=100)
        people.append(Person(who, head, ("healthy", "abnormal")[i], near=25 if end == ".jpeg" else 0.5))
    parts = {
        "slices": slices,
        "table": write_rows(rng, folder / "participants.tsv", [["participant_id", "age"], [who, 70]], "\t"),
    }
    return Release("adni", folder, people, parts, {"layout": "slices"}, "nonzero")


LAYOUTS: tuple[Callable[[np.random.Generator, Path], Release], ...] = (
    *(adni_caps, adni_loni, adni_slices, atlas, bids, mets_pictures, mets_volumes, brats, brats_2021, dicom, folder),
    *(ixi, lgg, oasis, open_ms, table, table_of_pictures),
)
