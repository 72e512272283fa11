"""Anyone's own scans, listed in a CSV file such as `manifest.csv`; `root` is the path of that file.

Needed are `path`, `patient` and `label` (healthy, abnormal or unlabelled); `session` tells visits apart, `lesion_path`
and `brain_path` name masks on the same grid; `tissue_path` names a NIfTI file of tissues on it, 1 to K, from which dal
learns and nothing else does; every other column is a group such as age or site. Without a `lesion_path`
every slice of an abnormal person is abnormal. Relative paths start at the folder of the file. A line that cannot be
used stops the run, for the file is one's own and soon mended.

Several contrasts of a scan, on one grid, stand in columns of their own in place of `path`; the option `channel` names
these. A cell among them may be blank: the scan is then left out with the reason.

An image is a NIfTI file or a folder of pictures, one a slice, the lowest first by the numbers in their names, anterior
at the top and the person's left at the left. Its masks are folders of PNG or TIFF files with the names of the slices;
`spacing_mm`, such as "0.94,0.94,5", is the distance of pixels left to right, of pixels back to front, and of slices.
"""

import os
from collections import Counter
from functools import partial
from pathlib import Path

from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.contrasts import joined
from symnorm_jax.data.sources.lines import PATHS, Line, read_lines
from symnorm_jax.data.sources.listing import left_out, nifti_scan, numeric, refuse, scan_of
from symnorm_jax.data.sources.pictures import LOSSLESS, PICTURES, Spacing, read_masks, read_slices, spacing_of
from symnorm_jax.data.volumes import Scan, Volume, read_labels
from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import contrasts

FORMAT = "table format 1"  # raise it when the same files would give other voxels


def records(root: str, *, channel: str = "path", labels: bool = True) -> list[Scan]:
    """List one Scan a line, whose image stands in the column `channel`, or contrasts in several, as `t1,flair`.

    Without `labels` these may be missing or say anything. Raises ScanError with the line.
    """
    names, others = contrasts(channel), ("spacing_mm",)
    if no_images := set(names) & {"patient", "label", "session", *PATHS, *others}:
        raise ConfigError(f"data.options.channel={channel!r}; {min(no_images)} is no column of images.")
    lines = {name: read_lines(Path(root), name, others, labels, names) for name in names}
    files = Counter(os.path.realpath(line.image) for listed in lines.values() for line in listed)
    twice = [file for file, count in files.items() if count > 1]
    refuse(root, twice, f"{', '.join(twice[:1])} stands in two columns of {channel}; once is allowed")
    return joined({name: list(map(_scan, listed)) for name, listed in lines.items()})


def load_pictures(images, lesion, brain, spacing: Spacing, reading: Reading = STRICT) -> Volume:
    """Read a stack of pictures, lowest first, with pictures of its masks if there are any; `spacing` in mm."""
    volume = read_slices(Path(images[0]).parent, "as pictures", images, spacing)
    for kind, paths in (("lesion", lesion), ("brain", brain)):
        if paths:
            volume = volume._replace(**{kind: read_masks(paths, volume, kind, reading, ("1", "L", "RGB"))})
    return volume


def _scan(line: Line) -> Scan:
    if not line.image.is_dir():
        spacing = line.cells.get("spacing_mm")
        refuse(line.where, spacing, f"spacing_mm={spacing!r}; only a folder of pictures has one")
        scan = nifti_scan(line.image, *line.masks, recipe=FORMAT, **line.person)
        tissue = line.tissue and partial(read_labels, str(line.tissue))
        return scan._replace(tissue=tissue, extras=scan.extras + ((str(line.tissue),) if line.tissue else ()))
    refuse(line.where, line.tissue, f"tissue_path={line.tissue}; only a NIfTI file has one")
    images = _pictures(line.image, PICTURES)
    refuse(line.where, not images, f"the folder {line.image} holds 0 pictures; {', '.join(PICTURES)} are read")
    lesion, brain = (_masks(line.where, images, folder) if folder else () for folder in line.masks)
    spacing = spacing_of(line.cells.get("spacing_mm", ""), f"{line.where}: spacing_mm")
    recipe = f"{FORMAT}, pictures {spacing}, lesion {bool(lesion)}, brain {bool(brain)}"
    read = partial(load_pictures, images, lesion, brain, spacing)
    return scan_of(read, images, lesion + brain, recipe=recipe, drawn=bool(lesion), **line.person)


def _pictures(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    seen = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = sorted((path for path in seen if path.suffix.lower() in suffixes), key=lambda path: numeric(path.name))
    others = sorted(path.name for path in seen if path not in found)
    left_out(folder, len(others), f"files and folders that are no pictures, as {others[0]}" if others else "")
    return tuple(map(str, found))


def _masks(where: str, images: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    fault = f"the mask {folder} is a file; a folder of pictures needs a folder of masks"
    refuse(where, not folder.is_dir(), fault)
    masks = {Path(path).stem: path for path in _pictures(folder, LOSSLESS)}
    for image in images:
        fault = f"{folder} holds no {' or '.join(LOSSLESS)} mask of the slice {Path(image).name}"
        refuse(where, Path(image).stem not in masks, fault)
    return tuple(masks[Path(image).stem] for image in images)
