"""Any data set in BIDS: `sub-*/[ses-*/]anat/*_<suffix>.nii[.gz]`, with `participants.tsv` beside them.

The table's column `group_column` says who is healthy; those of another value have a disease, and those of none are
unlabelled: scored, and neither trained on nor judged. Masks are `..._mask` or `..._roi` files below the folder `masks`
with the subject and session of the image and no entity that contradicts it: of the brain where they are named
`desc-brain`, of lesions with `desc-lesion`, `desc-T1lesion`, `label-lesion` or `label-L` (L stands for lesion). Without
a lesion mask every slice of a diseased person is abnormal. Of several runs of a session the first by name is taken.

PyBIDS is not used: it would index a whole data set in SQL, for many dependencies, to answer two questions on names.
"""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from absl import logging

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.sources.listing import existing, nothing_found, numeric, read_rows
from symnorm_jax.data.volumes import Scan, read_volume
from symnorm_jax.errors import ConfigError, ScanError

FORMAT = 1  # raise it when the same files would give other voxels
HEALTHY = ("control", "controls", "healthy", "hc")
MASKS = "derivatives"
MISSING = ("", "n/a")
LESION = re.compile(r"(.*)lesion", re.IGNORECASE)  # lesion, T1lesion, but not lesionAcute, a part of one


class Mask(NamedTuple):
    """A mask file and what its name says of it."""

    path: Path
    kind: str  # brain or lesion
    entities: dict[str, str]  # run, acq, space and the like
    of: str  # the suffix of the image that it was drawn on, where it is given


def records(
    root: str,
    *,
    suffix: str = "T1w",
    masks: str = MASKS,
    group_column: str = "group",
    healthy: str | tuple[str, ...] = HEALTHY,
) -> list[Scan]:
    """One Scan a session; `healthy` lists the values of `group_column` that mean so, separated by commas if text.

    Letter case does not matter. With `group_column=""` everybody is unlabelled. Raises ScanError where the layout is
    another or two masks claim one image, ConfigError where the table has no such column.
    """
    if not re.fullmatch("[A-Za-z0-9]+", suffix):
        raise ConfigError(f"data.options.suffix={suffix!r}; a BIDS suffix, letters and digits such as T1w, is allowed.")
    layout = f"sub-<label>/[ses-<label>/]anat/sub-<label>[_...]_{suffix}.nii.gz"
    images = _images(existing(root, layout), suffix)
    if not images:
        raise nothing_found(root, f"images {suffix}", layout)
    people = _participants(Path(root) / "participants.tsv", group_column)
    values = healthy.split(",") if isinstance(healthy, str) else healthy
    values = {value.strip().lower() for value in values}
    found, scans = _masks(Path(root) / masks, masks) if masks else {}, []
    for session, image in images.items():
        lesion, brain = (_mask_of(image, suffix, found.get(session, []), kind) for kind in ("lesion", "brain"))
        known = people.get(session[0], {})
        value = known.get(group_column, "") if group_column else ""
        group = value and ("healthy" if value.lower() in values else "abnormal")
        scans.append(_scan(session, image, lesion, brain, known, group))
    if group_column and not any(scan.healthy for scan in scans):
        logging.warning(
            "%s: nobody's %s is one of %s, so nobody counts as healthy.", root, group_column, sorted(values)
        )
    return scans


def _images(root: Path, suffix: str) -> dict[tuple[str, str], Path]:
    """The image of each (subject, session), the first by name where there are more."""
    images, more = {}, 0
    for subject in sorted(root.glob("sub-*"), key=lambda path: numeric(path.name)):
        for anat in sorted([*subject.glob("anat"), *subject.glob("ses-*/anat")], key=lambda path: numeric(str(path))):
            session = "" if anat.parent == subject else anat.parent.name
            ends = (f"_{suffix}.nii", f"_{suffix}.nii.gz")
            runs = [path for path in anat.glob("*") if path.name.startswith(f"{subject.name}_")]
            runs = sorted((run for run in runs if run.name.endswith(ends)), key=lambda path: numeric(path.name))
            if runs:
                images[subject.name, session] = runs[0]
                more += len(runs) - 1
    if more:
        logging.warning(
            "%s: left out %d of %d images, each a session's second or later.", root, more, more + len(images)
        )
    return images


def _participants(path: Path, group_column: str) -> dict[str, dict[str, str]]:
    """The known cells of each subject; none where there is no table, which BIDS allows."""
    if not path.is_file():
        return {}
    rows = read_rows(path, ("participant_id",), "\t")
    if group_column and rows and group_column not in rows[0]:
        raise ConfigError(
            f"data.options.group_column={group_column!r}; one of the columns {sorted(rows[0])} of {path}, or '', "
            f"is allowed."
        )
    return {
        f"sub-{row['participant_id'].removeprefix('sub-')}": {
            name: cell for name, cell in row.items() if cell.lower() not in MISSING
        }
        for row in rows
    }


def _masks(folder: Path, given: str) -> dict[tuple[str, str], list[Mask]]:
    """The masks of each (subject, session) at any depth below `folder`."""
    if not folder.is_dir():
        if given == MASKS:
            return {}
        raise ScanError(
            f"{folder}: not a folder; data.options.masks={given!r} must name one, from data.root, or be ''."
        )
    found = defaultdict(list)
    for path in sorted(folder.rglob("sub-*_*.nii*")):
        entities, rest = _parse(path.name)
        if path.name.endswith((".nii", ".nii.gz")) and rest[-1:] in (["mask"], ["roi"]) and len(rest) <= 2:
            session = f"sub-{entities.pop('sub')}", f"ses-{entities.pop('ses')}" if "ses" in entities else ""
            desc, label = entities.pop("desc", ""), entities.pop("label", "")
            is_lesion = label == "L" or LESION.fullmatch(label) or LESION.fullmatch(desc)
            if is_lesion or desc == "brain":
                found[session].append(Mask(path, "lesion" if is_lesion else "brain", entities, "".join(rest[:-1])))
    return found


def _parse(name: str) -> tuple[dict[str, str], list[str]]:
    """The entities of a file name, such as `ses-1`, and its parts that are none, of which the suffix is the last."""
    parts = name.split(".")[0].split("_")
    return dict(part.split("-", 1) for part in parts if "-" in part), [part for part in parts if "-" not in part]


def _mask_of(image: Path, suffix: str, masks: list[Mask], kind: str) -> str | None:
    entities, _ = _parse(image.name)
    spaces = (entities["space"],) if "space" in entities else ("", "orig", suffix)  # names of the image's own grid
    fits = [
        mask.path
        for mask in masks
        if mask.kind == kind
        and mask.of in ("", suffix)
        and mask.entities.get("space", "") in spaces
        and all(entities.get(key) == value for key, value in mask.entities.items() if key != "space")
    ]
    if len(fits) > 1:
        names = ", ".join(map(str, fits))
        raise ScanError(f"{image}: {len(fits)} {kind} masks, {names}; data.options.masks must name a folder with one.")
    return str(fits[0]) if fits else None


def _scan(
    session: tuple[str, str], image: Path, lesion: str | None, brain: str | None, known: dict, group: str
) -> Scan:
    """`group` is healthy, abnormal, or empty where nobody knows."""
    return Scan(
        patient=session[0],
        session=session[1],
        healthy=group == "healthy",
        load=partial(read_volume, str(image), lesion, brain),
        files=(str(image),),
        extras=tuple(mask for mask in (lesion, brain) if mask),
        recipe=f"bids format {FORMAT}, lesion {bool(lesion)}, brain {bool(brain)}",
        groups={name: cell for name, cell in known.items() if name not in ("participant_id", *COLUMNS)},
        labelled=bool(group),
    )
