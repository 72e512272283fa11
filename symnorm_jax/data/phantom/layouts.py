"""Write phantom people in the layout of a release, so that all steps can be tried before a release is had.

The trees are as in `sources/adni_loni.py`, `brainmetshare.py` and `brats.py`; each layout and seed has other people.
"""

import csv
from pathlib import Path

import joblib
import numpy as np

from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.data.phantom import people as phantom
from symnorm_jax.data.phantom.lesions import CORE, ENHANCING, SWELLING
from symnorm_jax.data.volumes import Scan, Volume, write_nifti
from symnorm_jax.errors import ConfigError
from symnorm_jax.progress import progress
from symnorm_jax.settings import check_choice

PEOPLE = (8, 200)
SEEDS = 1000

# In BrainMetShare: the files of a case, and the phantoms' contrasts.
METS = {"t1_gd": "t1_gd", "t1_pre": "t1", "flair": "flair"}
METS_TEST = 8  # every so many people are in `test`, without a mask
# In BraTS: the files of a case, contrasts, and what of the tumour each scan's mask tells.
BRATS = {"t1c": ("t1_gd", "whole", SWELLING), "t2f": ("flair", "core", CORE), "t1n": ("t1", "enhancing", ENHANCING)}
BRATS_GLIOMA = 0.65  # share of the people, as in BraTS-Africa
BRATS_NOISE = 2.0  # times that of the other layouts: the release was made to hold scans of lesser quality
BRATS_NEGATIVE = 1.0  # percentile of the brain that becomes 0
ADNI_HEALTHY = 0.6  # share of the people
ADNI_AGAIN = 3  # every so many people come back after a year
ADNI_SITES = ("002", "011", "022", "099", "153")
ADNI_COLUMNS = ("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit")
ADNI_COLUMNS += ("Modality", "Description", "Type", "Acq Date", "Format", "Downloaded")


def write(layout: str, root: str | Path, people: int, spacing: float, seed: int, workers: int = 0) -> Path:
    """Write `people` phantoms of `spacing` mm to a new or empty `root`, or raise ConfigError; return the release."""
    check_choice("layout", layout, LAYOUTS)
    if not PEOPLE[0] <= people <= PEOPLE[1]:
        raise ConfigError(f"people={people}; {PEOPLE[0]} to {PEOPLE[1]} are allowed.")
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"seed={seed}; 0 to {SEEDS - 1} are allowed.")
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"{root}: is there and not empty; a new or empty folder is allowed.")
    release, jobs = LAYOUTS[layout](root, people, spacing, SEEDS * (1 + sorted(LAYOUTS).index(layout)) + seed)
    written = in_parallel([joblib.delayed(function)(*arguments) for function, *arguments in jobs], workers)
    list(progress(written, "writing phantoms", len(jobs)))
    return release


def _brainmetshare(root: Path, people: int, spacing: float, seed: int) -> tuple[Path, list[tuple]]:
    """Plan people with metastases, most in `train` with a mask, some in `test` without; the first has no FLAIR."""
    cohort = {"healthy": 0, "patients": people, "seed": seed, "spacing": spacing}
    channels = {name: phantom.records(None, contrast=contrast, **cohort) for name, contrast in METS.items()}
    release, jobs = root / "brainmetshare-3", []
    for k in range(people):
        scans = {name: listed[k] for name, listed in channels.items()}
        before, place = divmod(k, METS_TEST)  # how many are in `test` already
        masked = place < METS_TEST - 1
        if not masked and not before:
            del scans["flair"]
        folder = f"train/Mets_{k - before + 1:03d}" if masked else f"test/Mets_{201 + before}"
        jobs.append((_write_mets_case, release / folder, scans, masked))
    return release, jobs


def _write_mets_case(folder: Path, scans: dict[str, Scan], masked: bool) -> None:
    """Write one person as `<channel>.nii.gz` and, if `masked`, `seg.nii.gz` of 0 and 1."""
    for name, scan in scans.items():
        volume = _write_image(folder / f"{name}.nii.gz", scan, "LAS")
    if masked:
        write_nifti(folder / "seg.nii.gz", volume.lesion.astype(np.uint8), volume.affine, "LAS")


def _brats(root: Path, people: int, spacing: float, seed: int) -> tuple[Path, list[tuple]]:
    """Plan BraTS-Africa: people with a glioma and, in the group of other neoplasms, people with metastases."""
    release, gliomas = root / "BraTS-Africa", round(BRATS_GLIOMA * people)
    cohort = {"healthy": 0, "patients": people, "seed": seed, "spacing": spacing, "noise": BRATS_NOISE}
    jobs = []
    for k in range(people):
        disease, group = ("glioma", "95_Glioma") if k < gliomas else ("metastases", "51_OtherNeoplasms")
        scans = {}
        for name, (contrast, labels, _) in BRATS.items():
            scans[name] = phantom.records(None, contrast=contrast, disease=disease, labels=labels, **cohort)[k]
        jobs.append((_write_brats_case, release / group / f"BraTS-SSA-{k + 2:05d}-000", scans))
    return release, jobs


def _write_brats_case(folder: Path, scans: dict[str, Scan]) -> None:
    """Write one person as float32 channels, 0 around the brain and at times negative in it, and `-seg` of 0 to 3."""
    labels = 0
    for name, scan in scans.items():
        volume = scan.load()
        floor = np.percentile(volume.voxels[volume.brain], BRATS_NEGATIVE)
        voxels = np.where(volume.brain, 20 * (volume.voxels - floor), 0).astype(np.float32)
        write_nifti(folder / f"{folder.name}-{name}.nii.gz", voxels, volume.affine, "LPS")
        labels = np.where(volume.lesion, BRATS[name][2], labels).astype(np.uint8)
    write_nifti(folder / f"{folder.name}-seg.nii.gz", labels, volume.affine, "LPS")


def _adni(root: Path, people: int, spacing: float, seed: int) -> tuple[Path, list[tuple]]:
    """Plan healthy people (CN) and people with atrophy (AD), some of them twice; writes the table of the collection."""
    healthy = round(ADNI_HEALTHY * people)
    cohort = {"healthy": healthy, "patients": people - healthy, "seed": seed, "spacing": spacing}
    scans = phantom.records(None, contrast="t1", disease="atrophy", visits=2, **cohort)
    rng, rows, jobs = np.random.default_rng(seed), [ADNI_COLUMNS], []
    for k, first in enumerate(rng.permutation(people)):  # so that neither number nor site tells who is ill
        subject = f"{ADNI_SITES[k % len(ADNI_SITES)]}_S_{4000 + k}"
        born, sex = 2011 - rng.integers(60, 88), rng.choice(["F", "M"])
        for visit in range(2 if k % ADNI_AGAIN == 0 else 1):
            scan, image = scans[2 * first + visit], 257401 + 2 * k + visit
            year, month, date = 2011 + visit, 1 + k % 12, 1 + k % 28
            person = (f"I{image}", subject, "CN" if scan.healthy else "AD", sex, year - born, ("sc", "m12")[visit])
            rows.append((*person, "MRI", "MPRAGE", "Original", f"{month}/{date}/{year}", "NiFTI", "1/31/2013"))
            folder = root / "ADNI" / subject / "MPRAGE" / f"{year}-{month:02d}-{date:02d}_10_41_36.0" / f"I{image}"
            series = f"{year}{month:02d}{date:02d}104136_1_S{image - 134427}"
            jobs.append((_write_image, folder / f"ADNI_{subject}_MR_MPRAGE_br_raw_{series}_I{image}.nii", scan, "PSR"))
    root.mkdir(parents=True, exist_ok=True)
    with (root / "phantoms_1_31_2013.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    return root, jobs


def _write_image(path: Path, scan: Scan, axes: str) -> Volume:
    """Write a scan as a scanner stores it, int16, 0 outside the brain alone, in the order `axes`; return the scan."""
    volume = scan.load()
    voxels = np.where(volume.brain, np.maximum(np.round(10 * volume.voxels), 1), 0).astype(np.int16)
    write_nifti(path, voxels, volume.affine, axes)
    return volume


LAYOUTS = {"adni": _adni, "brainmetshare": _brainmetshare, "brats": _brats}
