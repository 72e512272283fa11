"""Writes releases of people whose lesions nobody has drawn, and of those of one kind; see `scans_layouts`."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scans import Head, draw_head, mask_values, nifti, pictures
from scans_release import Person, Release, ending, two, write_rows

from symnorm_jax.geometry import voxel_sizes


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
