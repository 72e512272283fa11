"""Random scans in the layout of every source come back as drawn; random contradictions never without a word."""

import contextlib
import logging
import os
import re
import shutil
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scans_contradictions_grids  # noqa: F401 - they fill the catalogue
import scans_contradictions_slices  # noqa: F401
import scans_contradictions_tables  # noqa: F401
from absl import logging as absl_logging
from scans import lesion_areas
from scans_contradictions import CATALOGUE
from scans_layouts import LAYOUTS
from scans_release import Person, Release

from configs.base import base
from symnorm_jax.data import brain, finding, prepare, samples
from symnorm_jax.data.sources import SOURCES, folder
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import InputError
from symnorm_jax.geometry import voxel_sizes

SEED = os.environ.get("SYMNORM_PROPERTY_SEED")  # of one case, to repeat it alone
MIN_LESION = 150.0  # mm2
GOLDEN = (5**0.5 - 1) / 2  # few seeds spread over the catalogue, and many take all of it


class Result(NamedTuple):
    """What reading a release came to: each scan's volume and rows, or the sentence that excludes it, and warnings."""

    scans: dict[str, tuple]  # Scan, Volume, Samples, brain; or Scan, sentence
    words: set[str]
    refusal: str = ""


@contextlib.contextmanager
def warnings_of():
    """The warnings that are logged within the block."""
    texts, handler = [], logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())
    absl_logging.get_absl_logger().addHandler(handler)
    try:
        yield texts
    finally:
        absl_logging.get_absl_logger().removeHandler(handler)


def settings(release: Release):
    config = base().data
    config.update(source=release.source, root=str(release.root), brain=release.brain, min_similarity=-1.0)
    config.update(size=(48, 48), slice_spacing=0.0, midline="centred", min_brain=1.0, min_lesion=MIN_LESION)
    config.options.update(release.options)
    return config


def read(release: Release) -> Result:
    config, found = settings(release), {}
    with warnings_of() as words:
        try:
            if release.source in SOURCES:
                scans = prepare.find_scans(config)
            else:
                scans = finding.as_configured(folder.records(release.root), config)
        except InputError as error:
            return Result({}, set(words), str(error))
        for scan in scans:
            found[scan.name] = (scan, *_cut(scan, config))
    return Result(found, set(words))


def _cut(scan: Scan, config) -> tuple:
    try:
        volume = scan.load()
        mask = brain.brain_mask(volume, config.brain)
        with config.unlocked():
            config.spacing = float(voxel_sizes(volume.affine)[:2].min())
        smallest = MIN_LESION * min(1.0, (config.spacing / 6) ** 2)  # pictures of some releases claim pixels of 1 mm
        config.min_lesion = smallest
        return volume, samples.cut(volume, mask, scan.healthy, config), mask
    except InputError as error:
        return (str(error),)


def differences(person: Person, result: Result) -> str:
    """What of a person did not come back as drawn; nothing where all did."""
    if person.name not in result.scans:
        return f"{person.name} is not among {sorted(result.scans)}"
    scan, volume, *rest = result.scans[person.name]
    if isinstance(volume, str):
        return volume
    standing = ("healthy" if scan.healthy else "abnormal") if scan.labelled else "unlabelled"
    if standing != person.standing:
        return f"{person.name} is {standing}, drawn as {person.standing}"
    return _of_grid(person, volume) or _of_masks(person, volume) or _of_slices(person, volume, *rest)


def _of_grid(person: Person, volume: Volume) -> str:
    head, sizes = person.head, voxel_sizes(person.head.affine)
    if volume.voxels.shape != head.shape:
        return f"shape {volume.voxels.shape}, drawn {head.shape}"
    places = np.c_[head.marks, np.ones(len(head.marks))] @ head.affine.T
    at = np.rint((places @ np.linalg.inv(volume.affine).T)[:, :3]).astype(int)
    off = np.abs((np.c_[at, np.ones(len(at))] @ volume.affine.T - places)[:, :3])
    if (at < 0).any() or (at >= head.shape).any() or (off > sizes.min() / 2).any():
        return f"marks lie off by {off.max(0).round(2)} mm"
    if not np.allclose(volume.voxels[tuple(at.T)], head.voxels[tuple(head.marks.T)], atol=person.near):
        return f"at the marks lies {volume.voxels[tuple(at.T)]}, drawn {head.voxels[tuple(head.marks.T)]}"
    far = np.abs(volume.voxels - head.voxels)
    return f"{(far > person.near).sum()} voxels differ, by {far.max():.1f}" if (far > person.near).any() else ""


def _of_masks(person: Person, volume: Volume) -> str:
    if (volume.lesion is None) != (person.lesion is None) or (volume.brain is None) == person.brain:
        return f"lesion {volume.lesion is not None}, brain {volume.brain is not None}"
    if person.brain:
        odd = (volume.brain != person.head.brain).mean()
        if odd > 0.02:  # the regions of IXI are closed
            return f"{odd:.1%} of the brain mask differ"
    if person.lesion is None:
        return ""
    found, drawn = (lesion_areas(*of) for of in ((volume.lesion, volume.affine), (person.lesion, person.head.affine)))
    if not np.allclose(found, drawn, rtol=1e-3):
        return f"areas {found[0].round(1)} mm2, drawn {drawn[0].round(1)}"
    ml, right = (
        one.sum() * voxel_sizes(a).prod() / 1000
        for one, a in ((volume.lesion, volume.affine), (person.lesion, person.head.affine))
    )
    return (
        "" if np.isclose(ml, right, rtol=1e-3) and (volume.lesion == person.lesion).all() else f"{ml} ml, drawn {right}"
    )


def _of_slices(person: Person, volume: Volume, cut: samples.Samples, mask: np.ndarray) -> str:
    """What of the samples is not as drawn: areas within half a pixel around, labels, and the side of the lesion."""
    if person.lesion is None:
        labels = {row["label"] for row in cut.rows}
        expected = "healthy" if person.standing == "healthy" else "abnormal"
        return "" if labels == {expected} else f"labels {labels}, drawn {expected}"
    areas, outline = lesion_areas(person.lesion, person.head.affine)
    sizes = voxel_sizes(person.head.affine)
    smallest, traces = MIN_LESION * min(1.0, (sizes[:2].min() / 6) ** 2), np.flatnonzero(areas)
    lowest, seen = np.flatnonzero(mask.any((0, 1)))[0], set()
    for row in cut.rows:
        z = row["slice"] + lowest
        seen.add(z)
        slack = 0.6 * outline[z] * sizes[:2].max() + sizes[0] * sizes[1]
        if abs(row["lesion_mm2"] - areas[z]) > slack:
            return f"slice {z}: {row['lesion_mm2']:.0f} mm2 of lesion, drawn {areas[z]:.0f}"
        near = len(traces) and abs(traces - z).min() <= 1
        allowed = ["healthy"] if not near else ["abnormal", "neither"] if areas[z] else ["neither"]
        allowed = ["abnormal"] if areas[z] - slack > smallest else allowed
        if row["label"] not in allowed:
            return f"slice {z} with {areas[z]:.0f} mm2 is {row['label']}, drawn {allowed}"
    if set(traces) - seen:
        return f"slices {sorted(set(traces) - seen)} of the lesion are not there"
    return _of_side(person, cut)


def _of_side(person: Person, cut: samples.Samples) -> str:
    if not person.lesion.any():
        return "a lesion where none was drawn" if cut.arrays[..., 2].any() else ""
    drawn = np.argwhere(person.lesion)[:, 0].mean() - (person.lesion.shape[0] - 1) / 2
    found = np.argwhere(cut.arrays[..., 2] > 0)[:, 1].mean() - (cut.arrays.shape[1] - 1) / 2
    return "" if drawn * found > 0 else f"the lesion is {found:+.1f} pixels off the middle, drawn {drawn:+.1f}"


def judged(release: Release, before: Result, after: Result, paths: list[Path]) -> str:
    """How a contradiction ended: refused, excluded, flagged or right. Raises AssertionError for a third outcome."""
    words = after.words - before.words
    if after.refusal:
        return _sentence(after.refusal, paths, release) or "refused"
    ends = set()
    for person in release.people:
        wrong, found = differences(person, after), after.scans.get(person.name)
        if found and isinstance(found[1], str):
            ends.add(
                "excluded" if _is_sentence(found[1]) else f"no sentence: {found[1]!r}"
            )  # the manifest names the scan
        elif found and (flag := found[2].rows[0]["flag"]) and flag != before.scans[person.name][2].rows[0]["flag"]:
            ends.add("flagged")
        elif wrong and words:
            ends.add("flagged" if any(_names(word, paths, release) for word in words) else f"{wrong}; only {words}")
        else:
            ends.add(f"without a word: {wrong}" if wrong else "right")
    strange = set(after.scans) - {person.name for person in release.people}
    if strange:
        ends.add("flagged" if any(_names(word, paths, release) for word in words) else f"new scans {strange}, unnamed")
    known = ("refused", "excluded", "flagged", "right")
    bad = [end for end in ends if end not in known]
    assert not bad, "; ".join(bad)
    return next(end for end in known if end in ends)


def _sentence(text: str, paths: list[Path], release: Release) -> str:
    """What is wrong with a message; nothing where it is one sentence that names what was changed, or is near it."""
    return "" if _is_sentence(text) and _names(text, paths, release) else f"no sentence that names {paths}: {text!r}"


def _is_sentence(text: str) -> bool:
    return text.endswith(".") and not re.search(r"[\r\n]", text) and len(text) < 9000


def _names(text: str, paths: list[Path], release: Release) -> bool:
    people = [person.name.partition("/")[0] for person in release.people]
    near = [name for path in paths for name in (path.name, path.parent.name)]
    return any(name in text for name in (*near, *people, str(release.root)))


def case(layout, seed: int, where: Path) -> str:
    """Draw, write and read one release, then contradict it; how that ended. Raises AssertionError, see `judged`."""
    rng = np.random.default_rng([zlib.crc32(layout.__name__.encode()), seed])
    release = layout(rng, where)
    if seed % 5 == 0:
        _link(rng, release)
    before = read(release)
    assert not before.refusal, before.refusal
    wrong = [f"{person.name}: {fault}" for person in release.people if (fault := differences(person, before))]
    assert not wrong, f"as drawn: {'; '.join(wrong)}"
    assert len(before.scans) == len(release.people), sorted(before.scans)
    kinds = [kind for kind in CATALOGUE if kind.fits(release)]
    kind = kinds[int(len(kinds) * (seed * GOLDEN % 1))]
    try:
        paths = kind.change(rng, release)
        end = judged(release, before, read(release), paths)
    except AssertionError as error:
        raise AssertionError(f"{kind.name}: {error}") from None
    return f"{kind.name}: {end}"


def _link(rng, release: Release) -> None:
    """Put a link in the place of a folder of the release."""
    base = release.root if release.root.is_dir() else release.root.parent
    folders = sorted(path for path in base.rglob("*") if path.is_dir())
    if folders:
        chosen, aside = folders[rng.integers(len(folders))], base.with_name(f"{base.name} aside")
        chosen.rename(aside)
        chosen.symlink_to(aside)


def run(layout, seeds, folder: Path) -> Counter:
    """Run cases; how they ended. Raises AssertionError that names all that failed, with their seeds."""
    ends, wrong = Counter(), []
    for seed in [int(SEED)] if SEED else seeds:
        where = folder / str(seed)
        where.mkdir()
        try:
            ends[case(layout, seed, where)] += 1
        except AssertionError as error:
            wrong.append(f"{str(error).partition(chr(10))[0]}\n    SYMNORM_PROPERTY_SEED={seed}")
        finally:
            for path in folder.iterdir():
                shutil.rmtree(path)
    told = "\n".join(wrong)
    assert not wrong, f"{layout.__name__}: {len(wrong)} of {len(seeds)} cases, each alone with its variable:\n{told}"
    return ends


COUNTS = [range(12), pytest.param(range(12, 306), marks=pytest.mark.long)]


@pytest.mark.parametrize("seeds", COUNTS, ids=("few", "many"))
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_scans_come_back_as_drawn_and_contradictions_never_without_a_word(layout, seeds, tmp_path):
    if layout.__name__ == "dicom":
        pytest.importorskip("pydicom", reason="pydicom is optional: pip install 'symnorm_jax[dicom]'")
    for end, count in sorted(run(layout, seeds, tmp_path).items()):
        print(f"{layout.__name__}, {end}: {count}")
