"""Any data set in BIDS: `sub-*/[ses-*/]anat/*_<suffix>.nii[.gz]`, with `participants.tsv` beside the people.

The table's column `group_column` says who is healthy; others have a disease, without a lesion mask in every slice; who
has no value there is unlabelled. Masks are `..._mask` or `..._roi` files with the subject and session of the image and
no entity that contradicts it: of the brain with `desc-brain`, of lesions with `desc-lesion`, `desc-T1lesion`,
`label-lesion` or `label-L`. Of several runs or copies of a session one is taken, the first by name and path.
PyBIDS is not used: it would index a whole data set in SQL, for many dependencies, to answer two questions on names.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from absl import logging

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.sources.contrasts import several
from symnorm_jax.data.sources.listing import (
    existing,
    files_below,
    left_out,
    mask_like,
    nifti_scan,
    numeric,
    one_each,
    one_form,
    some,
    unused,
    walk,
)
from symnorm_jax.data.sources.tables import columns_of, participants
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import ConfigError, ScanError, check_options

FORMAT = "bids format 1"  # raise it when the same files would give other voxels
HEALTHY = ("control", "controls", "healthy", "hc")
MASKS, BESIDE = "derivatives", "."
CHOICES = {"standing": ("masks", "table")}
LESION = re.compile(r"(.*)lesion", re.IGNORECASE)  # lesion, T1lesion, but not lesionAcute, a part of one
SHARED = ("sub", "ses", "desc", "label", "space")  # entities in which a mask and its image need not be equal
Session = tuple[str, str]  # subject and session, such as sub-01 and ses-1 or nothing
Masks = dict[tuple[str, str, str], list[Path]]  # of each subject, session and kind


@several
def records(
    root: str,
    *,
    channel: str = "T1w",
    masks: str = MASKS,
    group_column: str = "group",
    healthy: str | tuple[str, ...] = HEALTHY,
    nested: bool = False,
    standing: str = "table",
    site: str = "",
) -> list[Scan]:
    """List one Scan a session, of images with the suffix `channel`.

    `masks` is a folder from `root`, "." for masks beside their image, "" for none. `healthy` lists the values of
    `group_column` that mean so, whatever their case, separated by commas if text; with `group_column=""` everybody is
    unlabelled. With `standing="masks"` a lesion mask says who is abnormal, and a scan without one is unlabelled.
    `nested` looks for people at any depth. `site` is a pattern of subjects, `sub-...`, whose first group is the site.
    Raises ScanError where the layout is another or two masks claim one image, ConfigError for impossible options.
    """
    check_options(CHOICES, standing=standing)
    if not re.fullmatch("[A-Za-z0-9]+", channel):
        allowed = "a BIDS suffix, letters and digits such as T1w, is allowed"
        raise ConfigError(f"data.options.channel={channel!r}; {allowed}.")
    layout = f"sub-<label>/[ses-<label>/]anat/sub-<label>[_...]_{channel}.nii.gz"
    folder, pattern = existing(root, layout), _site_pattern(site)
    images = some(root, _images(folder, channel, nested), f"images {channel}", layout)
    people = _participants(folder / "participants.tsv", group_column)
    beside = [path for image in images.values() for path in image.parent.iterdir()]
    below = list(filter(mask_like, beside if masks == BESIDE else _files_of(folder, masks)))
    found = _masks(below)
    values = {value.strip().lower() for value in (healthy.split(",") if isinstance(healthy, str) else healthy)}
    scans = []
    for (subject, session), image in images.items():
        lesion, brain = (_mask_of(image, channel, found, (subject, session, kind)) for kind in ("lesion", "brain"))
        known, named = people.get(one_form(subject), {}), pattern.fullmatch(subject)
        value = known.get(group_column, "").lower()
        by_table = "unlabelled" if not value else "healthy" if value in values else "abnormal"
        by_mask = "abnormal" if lesion else "unlabelled"
        groups = {"site": named[1].upper()} if named else {}
        groups |= {name: cell for name, cell in known.items() if name not in COLUMNS}
        about = {"standing": by_table if standing == "table" else by_mask, "groups": groups}
        scans.append(nifti_scan(image, lesion, brain, patient=subject, session=session, recipe=FORMAT, **about))
    unused(root, below, [mask for scan in scans for mask in scan.extras])
    unlabelled = sum(not scan.labelled for scan in scans)
    if standing == "masks" and unlabelled:
        logging.warning("%s: %d of %d scans have no lesion mask and are unlabelled.", root, unlabelled, len(scans))
    if standing == "table" and group_column and not any(scan.healthy for scan in scans):
        logging.warning("%s: nobody's %s is one of %s; nobody is healthy.", root, group_column, sorted(values))
    return scans


def _site_pattern(site: str) -> re.Pattern:
    """Compile the pattern of sites; where none is asked for, one that fits no subject."""
    try:
        pattern = re.compile(site or "()")
    except re.error:
        pattern = re.compile("")
    if pattern.groups < 1:
        raise ConfigError(f"data.options.site={site!r}; a regular expression with a group, or '', is allowed.")
    return pattern


def _images(root: Path, suffix: str, nested: bool) -> dict[Session, Path]:
    """Find the image of each session, in numeric order; the first by name and path where there are more."""
    found, anat, tops = {}, set(), [path for path, *_ in walk(root)] if nested else [root]
    for top, between in product(tops, ("", "ses-*/")):
        anat |= {str(path) for path in top.glob(f"sub-*/{between}anat")}
        for path in top.glob(f"sub-*/{between}anat/sub-*_{suffix}.nii*"):
            subject, session = map(one_form, path.parts[-4:-2] if between else (path.parts[-3], ""))
            if one_form(path.name).startswith(f"{subject}_") and path.name.endswith((".nii", ".nii.gz")):
                found[path] = (subject, session)
    bare = sorted(anat - {str(path.parent) for path in found})
    left_out(root, len(bare), f"folders without an image {suffix}, as {bare[0]}" if bare else "")
    second, rank = "images, each a session's second or later", lambda path: (numeric(path.name), str(path))
    images = one_each(root, list(found), found.get, rank, second)
    return {found[path]: path for path in sorted(images, key=lambda path: [numeric(part) for part in found[path]])}


def _participants(path: Path, group_column: str) -> dict[str, dict[str, str]]:
    """Read the known cells of each subject; none where there is no table, which BIDS allows."""
    columns = columns_of(path, "\t") if path.is_file() else []
    if group_column and columns and group_column not in columns:
        allowed = f"one of the columns {sorted(columns)} of {path}, or '', is allowed"
        raise ConfigError(f"data.options.group_column={group_column!r}; {allowed}.")
    return participants(path, same=(group_column,), start="sub-")


def _files_of(root: Path, masks: str) -> list[Path]:
    """List all files below the folder `masks`; none where it is the default one and not there."""
    folder = root / masks
    if not masks or masks == MASKS and not folder.is_dir():
        return []
    if not folder.is_dir():
        needed = "must name one, from data.root, or be ''"
        raise ScanError(f"{folder}: not a folder; data.options.masks={masks!r} {needed}.")
    return files_below(folder)


def _masks(paths: Iterable[Path]) -> Masks:
    """Group the masks among `paths`, sorted by path."""
    found = defaultdict(list)
    for path in sorted(paths):
        entities, rest = _parse(one_form(path.name))
        is_mask = path.name.endswith((".nii", ".nii.gz")) and rest[-1:] in (["mask"], ["roi"]) and len(rest) <= 2
        desc, label = entities.get("desc", ""), entities.get("label", "")
        is_lesion = label == "L" or LESION.fullmatch(label) or LESION.fullmatch(desc)
        if is_mask and "sub" in entities and (is_lesion or desc == "brain"):
            session = f"ses-{entities['ses']}" if "ses" in entities else ""
            found[f"sub-{entities['sub']}", session, "lesion" if is_lesion else "brain"].append(path)
    return found


def _parse(name: str) -> tuple[dict[str, str], list[str]]:
    """Split a file name into its entities, such as `ses-1`, and its other parts, of which the suffix is the last."""
    parts = name.split(".")[0].split("_")
    return dict(part.split("-", 1) for part in parts if "-" in part), [part for part in parts if "-" not in part]


def _mask_of(image: Path, suffix: str, masks: Masks, key: tuple[str, str, str]) -> Path | None:
    """Find the mask of an image. Raises ScanError where several fit."""
    entities, _ = _parse(image.name)
    spaces = (entities["space"],) if "space" in entities else ("", "orig", suffix)  # names of the image's own grid
    fits = []
    for path in masks.get(key, ()):
        drawn, rest = _parse(path.name)
        alike = all(entities.get(name) == value for name, value in drawn.items() if name not in SHARED)
        if alike and "".join(rest[:-1]) in ("", suffix) and drawn.get("space", "") in spaces:
            fits.append(path)
    if len(fits) > 1:
        found = f"{len(fits)} {key[-1]} masks, {', '.join(map(str, fits))}"
        raise ScanError(f"{image}: {found}; data.options.masks must name a folder with one.")
    return fits[0] if fits else None
