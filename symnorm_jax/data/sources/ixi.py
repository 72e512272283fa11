"""IXI, healthy people scanned at three London hospitals: `IXI-T1/IXI012-HH-1211-T1.nii.gz`, whole heads.

`IXI-T2/` and `IXI-PD/` are named likewise; files may also lie in the root itself. The release has no masks; regions in
`DLMUSE/IXI012-HH-1211-T1_DLMUSE.nii.gz`, on the grid of T1, give brain and tissue for T1 alone. Age and sex come from
`participants.tsv`, or from the release's `IXI.xls` saved as `IXI.csv`. Everyone is healthy, but real stroke lesions,
drawn in other people, can be planted in T1: abnormal scans, exactly known.
"""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from symnorm_jax.data.masks import POSITIVE, STRICT, Reading
from symnorm_jax.data.phantom import planting
from symnorm_jax.data.sources.contrasts import several
from symnorm_jax.data.sources.listing import existing, files_below, nifti_scan, one_each, some, unused
from symnorm_jax.data.sources.tables import cells, participants, read_rows
from symnorm_jax.data.volumes import Scan, Volume, read_labels, read_volume
from symnorm_jax.errors import ConfigError, check_options
from symnorm_jax.geometry import voxel_sizes

FORMAT = "ixi format 1"  # raise it when the same files would give other voxels
CHANNELS = ("t1", "t2", "pd")
CLOSING_MM = 4.0  # bridges gaps between labelled regions
SEX_COLUMN = "SEX_ID (1=m, 2=f)"
SEXES = {"1": "M", "2": "F"}  # 0 stands for unknown
# Tissues of MUSE regions: 1 fluid, and brain without a region; 2 grey matter, every other region; 3 white matter, with
# brain stem and ventral diencephalon; 4 deep grey matter.
TISSUES = {1: (4, 11, 46, *range(49, 53)), 3: (35, 40, 41, 61, 62, 69, *range(81, 96))}
TISSUES |= {4: (23, 30, 36, 37, *range(55, 61), 75, 76)}

_NAME = re.compile(r"((IXI(\d+))-(HH|Guys|IOP)-\d+)-(T1|T2|PD)\.nii\.gz")


@several
def records(
    root: str,
    *,
    channel: str = "t1",
    lesion_masks: str | None = None,
    planted: float = 0.4,
    pairs: int = 0,
    seed: int = 0,
) -> list[Scan]:
    """List one healthy Scan a person; of `lesion_masks`, a folder from `root`, a fraction `planted` get a lesion each.

    Its files are `*_lesion.nii.gz`, none used twice. Who gets which is a function of `seed` and the names. With `pairs`
    whoever gets a lesion stands as the session `healthy`, without one, and as `lesion1` to as many, each with another.
    """
    check_options({"channel": CHANNELS}, channel=channel)
    if not 0 <= planted <= 1:
        raise ConfigError(f"data.options.planted={planted:g}; a fraction from 0 to 1 is allowed.")
    if lesion_masks and channel != "t1":
        raise ConfigError(f"data.options.lesion_masks={lesion_masks!r}; with channel={channel!r} only '' is allowed.")
    folder = existing(root, f"IXI-{channel.upper()}")
    images = _images(folder, channel.upper())
    names = [_NAME.fullmatch(image.name)[2] for image in images]
    lesions = planting.assign(names, folder / lesion_masks, planted, pairs, seed) if lesion_masks else {}
    known, sessions = _participants(folder), [_sessions(lesions.get(name, ()), pairs) for name in names]
    listed = [(image, *one) for image, of in zip(images, sessions, strict=True) for one in of]
    scans = [_scan(folder, *one, known, seed) for one in listed]
    if channel == "t1":
        unused(folder, (folder / "DLMUSE").glob("*"), [mask for scan in scans for mask in scan.extras])
    return scans


def load(image: str, lesion: str | None, brain: str | None, seed: tuple[int, ...], reading: Reading = STRICT) -> Volume:
    """Read a head, its brain where labels are given, and plant the `lesion`, if any."""
    volume = read_volume(image, brain=brain, reading=reading._replace(brain=POSITIVE))  # the regions of a brain
    if brain:
        volume = volume._replace(brain=_solid(volume.brain, voxel_sizes(volume.affine)))
    if not lesion:
        return volume._replace(lesion=np.zeros(volume.voxels.shape, bool))
    return planting.plant(volume, lesion, seed)


def _images(root: Path, contrast: str) -> list[Path]:
    """Find the image of each person, sorted; the first where the same person comes twice."""
    folder = root / f"IXI-{contrast}"
    found = {path: _NAME.fullmatch(path.name) for path in (files_below(folder) if folder.is_dir() else root.iterdir())}
    found = {path: name for path, name in found.items() if name and name[5] == contrast}
    some(root, found, "heads", f"IXI-{contrast}/IXI<number>-<HH|Guys|IOP>-<number>-{contrast}.nii.gz")
    person, rank = lambda path: found[path][2], lambda path: (path.name, str(path))
    return one_each(root, list(found), person, rank, "heads, each a person's second")


def _participants(root: Path) -> dict[str, dict[str, str]]:
    """Read age and sex where they are known, by participant (IXI012-HH-1211) or by person (IXI012)."""
    if (root / "participants.tsv").is_file():
        known = participants(root / "participants.tsv", ("age", "sex"))
        return {name: cells(row, "age", "sex") for name, row in known.items()}
    found = defaultdict(lambda: {"age": set(), "sex": set()})
    table = root / "IXI.csv"
    for row in read_rows(table, ("IXI_ID", "AGE", SEX_COLUMN)) if table.is_file() else ():
        person = found[f"IXI{row['IXI_ID'].removesuffix('.0').zfill(3)}"]
        person["age"] |= {row["AGE"]} - {""}
        person["sex"] |= {SEXES.get(row[SEX_COLUMN].removesuffix(".0"), "")} - {""}
    # people come twice at times, once with blanks, or with contradictions, of which neither is believed
    return {name: {key: min(of) for key, of in person.items() if len(of) == 1} for name, person in found.items()}


def _sessions(lesions: tuple[str, ...], pairs: int) -> list[tuple[str, str | None, tuple[int, ...]]]:
    """List the sessions of a person who gets `lesions`: a name, a lesion, and what its seed has beside the person's."""
    if not pairs or not lesions:
        return [("", next(iter(lesions), None), ())]
    return [("healthy", None, ()), *((f"lesion{i}", one, (i,)) for i, one in enumerate(lesions, start=1))]


def _scan(root: Path, image: Path, session: str, lesion: str | None, place: tuple[int, ...], known, seed: int) -> Scan:
    participant, person, number, site, contrast = _NAME.fullmatch(image.name).groups()
    labels = root / "DLMUSE" / f"{participant}-T1_DLMUSE.nii.gz"
    brain = labels if contrast == "T1" and labels.is_file() else None
    recipe = f"{FORMAT}, {contrast}" + f", planted with seed {', '.join(map(str, (seed, *place)))}" * bool(lesion)
    about = {"standing": "abnormal" if lesion else "healthy", "recipe": recipe, "patient": person, "session": session}
    about |= {"planted": lesion or ""}
    groups = {"site": site} | known.get(participant, known.get(person, {}))
    read = partial(load, seed=(seed, int(number), *place))
    scan = nifti_scan(image, lesion, brain, read=read, groups=groups, **about)
    return scan._replace(tissue=partial(tissue_of, str(brain)) if brain else None)


def tissue_of(labels: str, volume: Volume) -> np.ndarray:
    """Read the regions of a brain as tissues 1 to 4 `[X, Y, Z]`, 0 outside it. Raises ScanError, see `read_labels`."""
    tissue = np.full(256, 2, np.uint8)
    for klass, regions in TISSUES.items():
        tissue[list(regions)] = klass
    tissue[0] = 1
    return tissue[read_labels(labels, volume)] * volume.brain


def _solid(labelled: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Close a mask `[X, Y, Z]` over the gaps between its regions, and fill its holes; `spacing` in mm."""
    steps = max(1, round(CLOSING_MM / spacing.min()))
    padded = np.pad(labelled, steps + 1)  # closing would eat into a brain that touches the edge of the array
    closed = ndimage.binary_closing(padded, iterations=steps)
    return ndimage.binary_fill_holes(closed)[(slice(steps + 1, -steps - 1),) * 3]
