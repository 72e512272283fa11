"""Contact sheets: a few people of a split, slice by slice, as the network will see them."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from symnorm_jax.data import manifest
from symnorm_jax.data.store import SampleSource
from symnorm_jax.geometry import LEFT_RIGHT, picture, plane
from symnorm_jax.report.figures import ABNORMAL, save
from symnorm_jax.report.table import printable

PATIENTS, SLICES = 6, 8
FRAMES = {"abnormal": ABNORMAL, "neither": "#d9a441"}
MIDLINE = "#5fc9d8"
LETTERS = 24  # of a name


def write_sheets(workdir: Path, rows: pd.DataFrame, store: str | Path) -> list[Path]:
    """Write `figures/contact_<split>.png` for each split of the manifest `rows`, whose samples are in `store`."""
    folder, written = workdir / "figures", []
    folder.mkdir(exist_ok=True)
    for split in (*manifest.SPLITS, manifest.UNLABELLED):
        part = rows[rows.split == split]
        if len(part):
            figure = contact_sheet(part, store, f"{split}: {part.patient.nunique()} patients")
            written.append(save(figure, folder / f"contact_{split}.png"))
    return written


def contact_sheet(rows: pd.DataFrame, store: str | Path, title: str) -> Figure:
    """Draw up to PATIENTS patients by SLICES slices, or planes of a volume, the lowest at the left.

    Anterior is up, the person's left at the left. Lesions are outlined, slices labelled abnormal or neither are framed,
    and the mid-line of the grid is drawn.
    """
    lines = _chosen(rows)
    first = SampleSource(store, lines[0])[0]["lesion"].shape
    if len(first) == 3:
        lines = [line.iloc[[0] * SLICES] for line in lines]
    source = SampleSource(store, pd.concat(lines))
    places = [(i, j) for i, line in enumerate(lines) for j in range(len(line))]
    images, lesions = (np.zeros((len(lines), SLICES, *first[1::-1]), np.float32) for _ in range(2))
    for number, (i, j) in enumerate(places):
        one, height = source[number], (j + 1) / (SLICES + 1)
        images[i, j], lesions[i, j] = (picture(plane(x, height)) for x in (one["image"][..., 0], one["lesion"]))
    figure = Figure(figsize=(1.25 * SLICES, 1.25 * len(lines) * first[1] / first[0] + 0.5))
    axes = figure.add_subplot()
    axes.imshow(_mosaic(images), cmap="gray", vmin=0, vmax=1.2, interpolation="nearest")
    if lesions.any():
        axes.contour(_mosaic(lesions), [0.5], colors=[ABNORMAL], linewidths=0.7)
    _annotate(axes, lines, first[LEFT_RIGHT], first[1])
    axes.set_title(f"{title}; framed red: abnormal, yellow: neither", fontsize=8, parse_math=False)
    return figure


def _chosen(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The slices to show of each patient, evenly over position; of patients evenly over those with and without."""
    patients = (rows.label == "abnormal").groupby(rows.patient).any().sort_values(kind="stable").index
    lines = []
    for patient in patients[_evenly(len(patients), PATIENTS)]:
        scan = rows[rows.patient == patient]
        scan = scan[scan.session == scan.session.iloc[0]].sort_values("position")
        lines.append(scan.iloc[_evenly(len(scan), SLICES)])
    return lines


def _evenly(length: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, length - 1, count).round().astype(int))


def _mosaic(pictures: np.ndarray) -> np.ndarray:
    """Pictures `[R, C, H, W]` side by side, `[R * H, C * W]`."""
    lines, columns, height, width = pictures.shape
    return pictures.swapaxes(1, 2).reshape(lines * height, columns * width)


def _annotate(axes, lines: list[pd.DataFrame], width: int, height: int) -> None:
    for i, line in enumerate(lines):
        for j, label in enumerate(line.label):
            middle, top = j * width + (width - 1) / 2, i * height - 0.5
            axes.plot([middle] * 2, [top, top + height], color=MIDLINE, lw=0.3, alpha=0.6)
            if label in FRAMES:
                corner = (j * width + 0.5, top + 1)
                axes.add_patch(Rectangle(corner, width - 2, height - 2, fill=False, ec=FRAMES[label], lw=0.8))
    names = []
    for row in (line.iloc[0] for line in lines):
        name = printable(row.patient)
        short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
        names.append(f"{short}\nflagged" if row.flag else short)
    axes.set_yticks((np.arange(len(lines)) + 0.5) * height, names, fontsize=5, parse_math=False)
    axes.set_xticks([])
    axes.tick_params(length=0)
