"""Damaged releases: whatever a file holds, the end is a usable volume or one sentence that names the file."""

import re
import signal
import time
import traceback
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import fuzz
import layouts
import layouts_dementia
import layouts_lesion
import layouts_tumour
import numpy as np
import pytest

from configs.base import base
from symnorm_jax.data import prepare
from symnorm_jax.data.sources import SOURCES
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import InputError

SECONDS, PATIENCE = 10, 300  # of a processor that one input may take, and of the clock
MEGABYTES = 100  # that it may take of memory
LETTERS = 9000  # that a message may have: a few cells of a table
CUT = 8  # every so many inputs are also cut into slices
SHARES = [6, pytest.param(1, marks=pytest.mark.long)]  # every so many changes are made to each release


class Release(NamedTuple):
    """A miniature release on disk: the source that reads it, its options, and how the brain is found."""

    source: str
    root: Path
    options: dict = {}
    brain: str = "head"

    def records(self) -> list[Scan]:
        return SOURCES[self.source](str(self.root), **self.options)


def adni_loni(folder: Path) -> Release:
    images = [
        ("002_S_0413", "MPRAGE", "2006-05-02_12_31_52.0", "S13893", "S13893_I29704.nii"),
        ("153_S_4077", "MPRAGE", "2011-09-20_10_41_36.0", "I257401", "S122974_I257401.nii.gz"),
    ]
    layouts_dementia.write_loni(folder, images)
    rows = "Subject,Group,Image Data ID\n002_S_0413,CN,I29704\n153_S_4077,AD,I257401\n"
    (folder / "collection.csv").write_text(rows)
    return Release("adni", folder, {"layout": "loni"})


def adni_caps(folder: Path) -> Release:
    sessions = [("sub-ADNI022S0004", "ses-M000", "CN"), ("sub-ADNI005S0221", "ses-M006", "AD")]
    return Release("adni", layouts_dementia.write_caps(folder, sessions), {"layout": "caps"})


def adni_slices(folder: Path) -> Release:
    layouts_dementia.write_pictures(folder / "AD_NC/train/NC", "218391", range(78, 82))
    layouts_dementia.write_pictures(folder / "AD_NC/test/AD", "99", range(88, 92), 1, "{}_{}.png")
    (folder / "participants.tsv").write_text("participant_id\tage\n218391\t70\n99\t80\n")
    return Release("adni", folder, {"layout": "slices"}, "nonzero")


def atlas(folder: Path) -> Release:
    return Release("bids", layouts_lesion.write_atlas(folder), {"nested": True, "masks": ".", "standing": "masks"})


def bids(folder: Path) -> Release:
    return Release("bids", layouts_lesion.write_bids(folder))


def mets_volumes(folder: Path) -> Release:
    return Release("brainmetshare", layouts_tumour.write_mets_volumes(folder, ("Mets_001", "Mets_002")), {}, "nonzero")


def mets_pictures(folder: Path) -> Release:
    return Release("brainmetshare", layouts_tumour.write_mets_pictures(folder, ("Mets_001",)), {}, "nonzero")


def brats(folder: Path) -> Release:
    return Release("brats", layouts_tumour.write_brats(folder, ("BraTS-SSA-00002-000",)), {}, "nonzero")


def dicom(folder: Path) -> Release:
    pytest.importorskip("pydicom", reason="pydicom is optional: pip install 'symnorm_jax[dicom]'")
    voxels, _, lesion = (array[:, :, 5:10] for array in layouts_lesion.person(1))
    layouts_lesion.write_series(folder / "a", voxels)
    layouts_lesion.write(folder / "lesion.nii.gz", lesion)
    (folder / "scans.csv").write_text("folder,patient,label,lesion_path,site\na,p1,abnormal,lesion.nii.gz,here\n")
    return Release("dicom", folder)


def ixi(folder: Path) -> Release:
    layouts.write_ixi(folder, people=2, size=24)
    layouts.write_lesion_masks(folder / "lesions", 2, spacing=8.0)
    return Release("ixi", folder, {"lesion_masks": "lesions", "planted": 0.5}, "file")


def lgg(folder: Path) -> Release:
    return Release("lgg", layouts.write_lgg(folder, patients=2, size=24, slices=5), {"channel": "t1_post"})


def oasis(folder: Path) -> Release:
    sessions = [("OAS1_0001_MR1", "74", "0"), ("OAS1_0002_MR1", "75", "0.5")]
    layouts_dementia.write_neurite(folder, "OAS1_0003_MR1")
    layouts_dementia.write_oasis(folder, [*sessions, ("OAS1_0003_MR1", "60", "1")])
    return Release("oasis", folder, {}, "nonzero")


def open_ms(folder: Path) -> Release:
    return Release("open_ms", layouts_lesion.write_open_ms(folder, 2), {"space": "coregistered"}, "file")


def table(folder: Path) -> Release:
    return Release("table", layouts.write_table(folder, people=3, size=16), {}, "file")


def table_of_pictures(folder: Path) -> Release:
    voxels, brain, lesion = layouts_lesion.person(0)
    for name, array, suffix in (
        ("a", voxels, ".jpg"),
        ("b", voxels, ".png"),
        ("c", lesion, ".tif"),
        ("d", brain, ".png"),
    ):
        layouts_lesion.write_pictures(folder / name, array[:, :, 4:10], suffix)
    head = "path,patient,label,lesion_path,brain_path,spacing_mm"
    (folder / "scans.csv").write_text(f'{head}\na,p,abnormal,c,d,"8,8,8"\nb,q,healthy,,d,"8,8,8"\n')
    return Release("table", folder / "scans.csv", {}, "file")


RELEASES: tuple[Callable[[Path], Release], ...] = (
    *(adni_loni, adni_caps, adni_slices, atlas, bids, mets_volumes, mets_pictures, brats, dicom, ixi, lgg, oasis),
    *(open_ms, table, table_of_pictures),
)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda write: write.__name__)
def release(request, tmp_path_factory) -> Release:
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


class Hang(BaseException):
    """An input took too long; no handler of errors may take this for one."""


@contextmanager
def alarm() -> Iterator[None]:
    """A Hang, should the block take too long; by the clock alone a busy machine would be taken for one."""

    def ring(*_):
        raise Hang(f"takes longer than {SECONDS} s")

    limits = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, PATIENCE)}
    before = {number: signal.signal(number, ring) for number, _ in limits.values()}
    for timer, (_, seconds) in limits.items():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, (number, _) in limits.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def faults(release: Release, paths: list[Path], store: Path | None = None) -> str:
    """What is wrong with how the release, whose `paths` are damaged, ends; nothing where all is well."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with alarm():
                judge(release, paths, store)
        except AssertionError as error:
            return str(error).partition("\n")[0]
        except (Exception, Hang):
            return traceback.format_exc(limit=-3)
    return "; ".join(f"{one.category.__name__}: {one.message} {one.filename}:{one.lineno}" for one in caught)


def judge(release: Release, paths: list[Path], store: Path | None) -> None:
    try:
        scans = release.records()
    except InputError as error:
        return check_sentence(str(error), release, paths, None)
    for scan in scans if fuzz.kind_of(paths[0]) == "table" else touched(scans, paths):
        try:
            check_volume(scan.load())
        except InputError as error:
            check_sentence(str(error), release, paths, scan)
        if store:
            check_rows(scan, release, store)


def touched(scans: list[Scan], paths: list[Path]) -> list[Scan]:
    """The scans that the damaged files are part of, or those in their folder, or all."""
    files, folders = set(map(str, paths)), {str(path.parent) for path in paths}
    held = [(scan, {*scan.files, *scan.extras}) for scan in scans]
    exact = [scan for scan, of in held if of & files]
    return exact or [scan for scan, of in held if {str(Path(file).parent) for file in of} & folders] or scans


def check_sentence(text: str, release: Release, paths: list[Path], scan: Scan | None) -> None:
    """One sentence that names a damaged file, a folder around it, or a file of the damaged scan or table."""
    assert not re.search(r"[\n\r]", text), f"more than one line: {text!r}"
    assert text.endswith("."), f"no sentence: {text!r}"
    assert len(text) < LETTERS, f"{len(text)} letters: {text[:200]!r}"
    base = folder_of(release)
    named = {*paths, *(folder for folder in paths[0].parents if folder == base or base in folder.parents)}
    named |= {paths[0].with_suffix(".hdr"), paths[0].with_suffix(".img"), release.root}
    files = [Path(file) for file in (*scan.files, *scan.extras)] if scan else []
    named |= {*files, *(file.parent for file in files)}
    if fuzz.kind_of(paths[0]) == "table":  # may point anywhere
        named |= {base / place for place in fuzz.PLACES} | {path for path in base.rglob("*") if scan is None}
    elif release.source in ("table", "dicom"):  # a path is named as the table has it
        named.add(paths[0].name)
    found = any(re.search(re.escape(str(one)) + r"(?![/\w-])", text) for one in named)
    gone = not paths[0].exists() and f"{paths[0].parent}/" in text  # what is looked for may have another name
    assert found or gone, f"{paths} not named: {text!r}"


def check_volume(volume: Volume) -> None:
    voxels, affine = volume.voxels, volume.affine
    assert voxels.dtype == np.float32 and voxels.ndim == 3 and 0 < voxels.size < 2**22, (voxels.dtype, voxels.shape)
    assert np.isfinite(voxels).all() and affine.shape == (4, 4) and np.isfinite(affine).all(), affine.tolist()
    for mask in (volume.lesion, volume.brain):
        assert mask is None or (mask.dtype == bool and mask.shape == voxels.shape), (mask.dtype, mask.shape)


def check_rows(scan: Scan, release: Release, store: Path) -> None:
    """The scan in a manifest: its slices, or one line with the reason why there are none."""
    config = base().data
    config.update(size=(16, 16), spacing=12.0, slice_spacing=12.0, min_brain=100.0, midline="centred")
    config.brain = release.brain
    rows = prepare._prepare_scan(scan, config, str(time.monotonic_ns()), store)
    assert rows, f"{scan.name}: no row"
    for row in rows:
        assert row["patient"] == scan.patient and "\n" not in row["exclusion"], row
        assert bool(row["exclusion"]) == (row["split"] == "excluded"), row


def folder_of(release: Release) -> Path:
    return release.root if release.root.is_dir() else release.root.parent


def files_of(release: Release) -> dict[str, list[Path]]:
    """What the release's scans are made of, and the tables beside them, by kind."""
    held = {Path(file) for scan in release.records() for file in (*scan.files, *scan.extras)}
    held |= set(folder_of(release).rglob("*.?sv"))
    return {kind: [path for path in sorted(held) if fuzz.kind_of(path) == kind] for kind in fuzz.DAMAGE}


def inputs(release: Release, share: int) -> Iterator[tuple[Path, fuzz.Change | str, bool]]:
    """A file, what becomes of it, and whether it becomes of all its likes in the folder; one in `share` changes."""
    rng = np.random.default_rng(zlib.crc32(release.source.encode()))
    for kind, paths in files_of(release).items():
        changes = [*fuzz.DAMAGE[kind][rng.integers(share) :: share], *fuzz.REPLACED]
        for change in changes if paths else ():
            yield paths[rng.integers(len(paths))], change, rng.random() < 0.2


def report(release: Release, wrong: dict[str, str]) -> None:
    lines = [f"{what}\n    {fault}" for what, fault in wrong.items() if fault]
    assert not lines, f"{release.source}, {len(lines)} of {len(wrong)} inputs:\n" + "\n".join(lines)


def test_the_release_itself_is_sound(release, tmp_path):
    assert not faults(release, [release.root], tmp_path)
    for scan in release.records():
        scan.load()


@pytest.mark.parametrize("share", SHARES)
def test_a_damaged_file_ends_in_a_volume_or_a_sentence(release, tmp_path, share):
    wrong = {}
    for number, (path, change, everywhere) in enumerate(inputs(release, share)):
        what = f"input {number}: {fuzz.describe(change)} of {path}{' and its likes' if everywhere else ''}"
        with fuzz.damaged(path, change, [number], everywhere) as paths:
            wrong[what] = faults(release, paths, None if number % CUT else tmp_path)
    assert len(wrong) > 60 / share
    report(release, wrong)


def test_files_for_folders_and_folders_for_files(release, tmp_path):
    files = [path for paths in files_of(release).values() for path in paths[:3]]
    folders = {folder for path in files for folder in path.parents if folder_of(release) in (folder, *folder.parents)}
    wrong = {}
    for folder in sorted(folders):
        with fuzz.file_for_folder(folder, tmp_path / "aside") as paths:
            wrong[f"a file for the folder {folder}"] = faults(release, paths)
    for path in sorted({*files, *folders}):
        with fuzz.stray(path) as paths:
            wrong[f"the stray {paths[0]}"] = faults(release, paths)
    report(release, wrong)


@pytest.mark.parametrize("release", (atlas, mets_pictures, dicom), ids=lambda write: write.__name__, indirect=True)
def test_a_small_file_costs_little_memory_whatever_it_claims(release):
    kind, paths = max(files_of(release).items(), key=lambda item: len(item[1]))
    wrong = {}
    tracemalloc.start()
    for change in fuzz.BOMBS[kind]:
        with fuzz.damaged(paths[0], change, [0]) as changed:
            tracemalloc.reset_peak()
            fault = faults(release, changed)
        peak = tracemalloc.get_traced_memory()[1] >> 20
        wrong[f"{fuzz.describe(change)} of {paths[0]}"] = fault + (f"{peak} MB" if peak > MEGABYTES else "")
    tracemalloc.stop()
    report(release, wrong)
