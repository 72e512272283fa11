"""Contact sheets: a few people of a split, slice by slice, as the network will see them."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from symnorm_jax.data import manifest
from symnorm_jax.data.store import SampleSource
from symnorm_jax.geometry import picture, plane
from symnorm_jax.report.figures import ABNORMAL, save
from symnorm_jax.report.gallery import draw, outline
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

    Lesions are outlined, slices labelled abnormal or neither are framed, and the mid-line of the grid is drawn.
    """
    lines = _chosen(rows)
    first = SampleSource(store, lines[0])[0]["lesion"]
    height, width = picture(plane(first)).shape
    lines = [line.iloc[[0] * SLICES] for line in lines] if first.ndim == 3 else lines
    figure = Figure(figsize=(1.25 * SLICES, 1.25 * len(lines) * height / width + 0.5))
    axes, source = figure.add_subplot(facecolor="black"), SampleSource(store, pd.concat(lines))
    places = [(i, j) for i, line in enumerate(lines) for j in range(len(line))]
    for number, (i, j) in enumerate(places):
        one, label, (left, top) = source[number], lines[i].label.iloc[j], (j * width, i * height)
        image, lesion = (plane(x, (j + 1) / (SLICES + 1)) for x in (one["image"][..., 0], one["lesion"]))
        draw(axes, image, (left, top), cmap="gray", vmax=1.2)
        outline(axes, lesion, (left, top), lw=0.7)
        axes.plot([left + width / 2] * 2, [top, top + height], color=MIDLINE, lw=0.3, alpha=0.6)
        if label in FRAMES:
            look = {"fill": False, "ec": FRAMES[label], "lw": 0.8}
            axes.add_patch(Rectangle((left + 1, top + 1), width - 2, height - 2, **look))
    axes.set(xlim=(0, SLICES * width), ylim=(len(lines) * height, 0), xticks=[])
    names = [_name(line.iloc[0]) for line in lines]
    axes.set_yticks((np.arange(len(lines)) + 0.5) * height, names, fontsize=5, parse_math=False)
    axes.tick_params(length=0)
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


def _name(row: pd.Series) -> str:
    """A patient's name, cut short, and whether the mid-line is flagged."""
    name = printable(row.patient)
    name = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    return f"{name}\nflagged" if row.flag else name
