"""IXI, healthy people scanned at three London hospitals: `IXI-T1/IXI012-HH-1211-T1.nii.gz`, whole heads.

`IXI-T2/` and `IXI-PD/` are named likewise; files may also lie in the root itself. The release has no masks.
`DLMUSE/IXI012-HH-1211-T1_DLMUSE.nii.gz`, where it is there, maps brain regions on the grid of T1 and so gives the brain
for T1 alone. Age and sex come from `participants.tsv`, or from the release's `IXI.xls` saved as `IXI.csv`. Everyone is
healthy, but real stroke lesions, drawn in other people, can be planted in T1: abnormal scans, exactly known.
"""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from absl import logging
from scipy import ndimage

from symnorm_jax.data.phantom import planting
from symnorm_jax.data.sources.listing import nothing_found, one_of, read_rows
from symnorm_jax.data.volumes import Scan, Volume, read_volume
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.geometry import voxel_sizes

FORMAT = 1  # raise it when the same files would give other voxels
CHANNELS = ("t1", "t2", "pd")
CLOSING_MM = 4.0  # bridges gaps between labelled regions
SEX_COLUMN = "SEX_ID (1=m, 2=f)"
SEXES = {"1": "M", "2": "F"}  # 0 stands for unknown

_NAME = re.compile(r"((IXI(\d+))-(HH|Guys|IOP)-\d+)-(T1|T2|PD)\.nii\.gz")


def records(
    root: str, *, channel: str = "t1", lesion_masks: str | None = None, planted: float = 0.4, seed: int = 0
) -> list[Scan]:
    """One Scan a person; given a folder of `*_lesion.nii.gz`, from `root`, a fraction `planted` get a lesion.

    Everyone else is healthy. No lesion is used twice. Who gets which is a function of `seed` and the names.
    """
    one_of("channel", channel, CHANNELS)
    if not 0 <= planted <= 1:
        raise ConfigError(f"data.options.planted={planted:g}; a fraction from 0 to 1 is allowed.")
    if lesion_masks and channel != "t1":
        raise ConfigError(f"data.options.lesion_masks={lesion_masks!r}; with channel={channel!r} only '' is allowed.")
    people = _people(Path(root), channel.upper())
    lesions = planting.assign(list(people), Path(root) / lesion_masks, planted, seed) if lesion_masks else {}
    known = _participants(Path(root))
    return [_scan(Path(root), path, channel, lesions.get(person), seed, known) for person, path in people.items()]


def load(image: str, labels: str | None, lesion: str | None, seed: tuple[int, ...]) -> Volume:
    """A head, its brain where `labels` are given, and the lesion planted in it, if any."""
    volume = read_volume(image, brain=labels)
    if labels:
        volume = volume._replace(brain=_solid(volume.brain, voxel_sizes(volume.affine)))
    if not lesion:
        return volume._replace(lesion=np.zeros(volume.voxels.shape, bool))
    return planting.plant(volume, lesion, seed)


def _people(root: Path, contrast: str) -> dict[str, Path]:
    """The image of each person, by number; the first where the same person comes twice."""
    if not root.is_dir():
        raise ScanError(f"{root}: not a folder; the one that holds IXI-{contrast} is needed.")
    folder = root / f"IXI-{contrast}"
    files = folder.rglob("*") if folder.is_dir() else root.iterdir()
    found = [path for path in files if (match := _NAME.fullmatch(path.name)) and match[5] == contrast]
    if not found:
        raise nothing_found(root, "heads", f"IXI-{contrast}/IXI<number>-<HH|Guys|IOP>-<number>-{contrast}.nii.gz")
    people = {}
    for path in sorted(found, key=lambda path: (path.name, str(path))):
        people.setdefault(_NAME.fullmatch(path.name)[2], path)
    if len(people) < len(found):
        second = len(found) - len(people)
        logging.warning("%s: left out %d of %d heads, each a person's second.", root, second, len(found))
    return people


def _participants(root: Path) -> dict[str, dict[str, str]]:
    """Age and sex where they are known, by participant (IXI012-HH-1211) or by person (IXI012)."""
    if (root / "participants.tsv").is_file():
        rows = read_rows(root / "participants.tsv", ("participant_id", "age", "sex"), "\t")
        return {row["participant_id"]: {key: row[key] for key in ("age", "sex") if row[key]} for row in rows}
    if not (root / "IXI.csv").is_file():
        return {}
    found = defaultdict(lambda: {"age": set(), "sex": set()})
    for row in read_rows(root / "IXI.csv", ("IXI_ID", "AGE", SEX_COLUMN)):
        person = found[f"IXI{row['IXI_ID'].removesuffix('.0').zfill(3)}"]
        person["age"] |= {row["AGE"]} - {""}
        person["sex"] |= {SEXES.get(row[SEX_COLUMN].removesuffix(".0"), "")} - {""}
    # people come twice at times, once with blanks, or with contradictions, of which neither is believed
    return {
        name: {key: min(cells) for key, cells in person.items() if len(cells) == 1} for name, person in found.items()
    }


def _scan(
    root: Path, path: Path, channel: str, lesion: str | None, seed: int, known: dict[str, dict[str, str]]
) -> Scan:
    participant, person, number, site, _ = _NAME.fullmatch(path.name).groups()
    labels = root / "DLMUSE" / f"{participant}-T1_DLMUSE.nii.gz"
    labels = str(labels) if channel == "t1" and labels.is_file() else None
    return Scan(
        patient=person,
        session="",
        healthy=lesion is None,
        load=partial(load, str(path), labels, lesion, (seed, int(number))),
        files=(str(path),),
        extras=tuple(file for file in (labels, lesion) if file),
        recipe=f"ixi format {FORMAT}"
        + (f", {channel}" if channel != "t1" else "")
        + (f", lesion painted with seed {seed}" if lesion else ""),
        groups={"site": site} | known.get(participant, known.get(person, {})),
    )


def _solid(labelled: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The brain without the gaps between its regions: closed, and its holes filled."""
    steps = max(1, round(CLOSING_MM / spacing.min()))
    padded = np.pad(labelled, steps + 1)  # closing would eat into a brain that touches the edge of the array
    closed = ndimage.binary_closing(padded, iterations=steps)
    return ndimage.binary_fill_holes(closed)[(slice(steps + 1, -steps - 1),) * 3]
