"""The samples that a report shows, by percentile or where a threshold went most wrong; contact sheets of people."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from symnorm_jax.data import manifest
from symnorm_jax.data.store import SampleSource
from symnorm_jax.evaluation.measures import label
from symnorm_jax.geometry import AXIAL, picture, plane
from symnorm_jax.report.figures import ABNORMAL, save
from symnorm_jax.report.table import Table, printable
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.thresholds import called, threshold_of

PERCENTILES = (5, 50, 95)
FAILURES = 4  # patients of whom the worst slice is shown
PANEL = 1.45  # inches
GAP = 2  # pixels between pictures
PATIENTS, SLICES = 6, 8
FRAMES = {"abnormal": ABNORMAL, "neither": "#d9a441"}
MIDLINE = "#5fc9d8"
LETTERS = 24  # of a name


def by_percentile(cases: pd.DataFrame, name: str) -> pd.DataFrame:
    """Choose the abnormal, then the healthy cases nearest to PERCENTILES of a score; a column `shown` says which."""
    parts = []
    for positive, kind in ((True, "abnormal"), (False, "healthy")):
        ordered = cases[cases.positive == positive].sort_values(name, kind="stable")
        if len(ordered):
            places = [round(percentile / 100 * (len(ordered) - 1)) for percentile in PERCENTILES]
            parts.append(ordered.iloc[places].assign(shown=[f"{kind}, {p}th" for p in PERCENTILES]))
    return pd.concat(parts) if parts else cases.assign(shown="")


def failures(cases: pd.DataFrame, name: str, fit: dict, positive: bool) -> pd.DataFrame:
    """Choose cases on the wrong side of the threshold of a `fit`: missed if `positive`, else called in error.

    The furthest from it is first, of FAILURES patients one each, since neighbouring slices look alike.
    """
    limit = pd.Series(threshold_of(fit, cases), cases.index)
    wrong = (cases.positive == positive) & (called(fit, cases, name) != positive) & limit.notna()
    far = (cases[name] - limit)[wrong].abs().sort_values(ascending=False, kind="stable")
    found = cases.loc[far.index].drop_duplicates("patient").head(FAILURES)
    return found.assign(shown=[str(i + 1) for i in range(len(found))], threshold=limit.loc[found.index])


def strips(chosen: pd.DataFrame, arrays: Arrays) -> Figure:
    """Draw a line for each chosen case: its image, what the system made of it, its map, and the truth."""
    columns, place = panels(arrays), pd.Series(np.arange(len(arrays["index"])), arrays["index"])
    within = arrays["map"][arrays["brain"]].astype(np.float32) if "map" in arrays else np.zeros(0)
    strongest = max(float(np.quantile(within, 0.999)), 1e-6) if len(within) else 1.0
    looks = {"map": {"cmap": "inferno", "vmin": 0, "vmax": strongest}}
    height, width = picture(arrays["image"][0]).shape
    lefts, tops = np.arange(len(columns)) * (width + GAP), np.arange(len(chosen)) * (height + GAP)
    figure = Figure(figsize=(PANEL * len(columns), PANEL * height / width * len(chosen)))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, which is quicker by far than one each
    for index, top in zip(chosen.index, tops, strict=True):
        for (title, images), left in zip(columns.items(), lefts, strict=True):
            draw(axes, images[place[index]], (left, top), **looks.get(title, greys(arrays["image"])))
        outline(axes, arrays["lesion"][place[index]], (lefts[-1], top), lw=1.2)
    axes.set(xlim=(0, lefts[-1] + width), ylim=(tops[-1] + height, 0), frame_on=False)
    axes.set_xticks(lefts + width / 2, columns, fontsize=9)
    axes.set_yticks(tops + height / 2, [shown.replace(", ", "\n") for shown in chosen.shown], fontsize=9)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    return figure


def of_volumes(arrays: Arrays) -> Arrays:
    """Take of volumes `[N, X, Y, Z]` the slice with most of the lesion or, without one, where the map is highest."""
    if arrays["image"].ndim < 4:
        return arrays
    lesion = arrays["lesion"].sum((1, 2))
    heights = np.where(lesion.any(-1, keepdims=True), lesion, arrays["map"].max((1, 2))).argmax(-1)
    taken = lambda x: np.take_along_axis(x, heights[:, None, None, None], AXIAL + 1)[..., 0]  # noqa: E731
    return {name: taken(x) if x.ndim == 4 else x for name, x in arrays.items()}


def panels(arrays: Arrays) -> dict[str, np.ndarray]:
    """Give the columns of `strips` by title, `[N, X, Y]` each."""
    made = {name.removeprefix("panel."): arrays[name] for name in arrays if name.startswith("panel.")}
    maps = {"map": arrays["map"]} if "map" in arrays else {}
    return {"image": arrays["image"]} | made | maps | {"truth": arrays["image"]}


def listed(chosen: pd.DataFrame, names: list[str], untold: tuple[str, ...] = ()) -> Table:
    """List who is shown, with scores and the threshold of a failure; without the columns `untold`."""
    named, rows = [*(["threshold"] if "threshold" in chosen else []), *names], []
    for _, case in chosen.iterrows():
        about = [case.shown, case.patient, int(case.slice), float(case.position), f"{case.lesion_mm2:.0f}"]
        rows.append([*about, *(float(case[name]) for name in named)])
    header = ["shown", "patient", "slice", "position", "lesion, mm²", *map(label, named)]
    return Table("", header, rows).only([name for name in header if name not in untold])


def draw(axes, image: np.ndarray, corner: tuple[int, int], **look) -> None:
    """Draw an image `[X, Y]` at its upper left corner, a unit a pixel."""
    rows, (left, top) = picture(image.astype(np.float32)), corner
    extent = (left, left + rows.shape[1], top + rows.shape[0], top)
    axes.imshow(rows, interpolation="nearest", extent=extent, **look)


def greys(images: np.ndarray) -> dict:
    """Choose how images `[..., X, Y]` are drawn, by whether 0 is black or, as in those below 0, the median."""
    low, high = (0, 1.2) if images.min() >= 0 else (-1.5, 2)
    return {"cmap": "gray", "vmin": low, "vmax": high}


def outline(axes, lesion: np.ndarray, corner: tuple[int, int], lw: float) -> None:
    """Draw the outline of a lesion `[X, Y]`, if there is one, on the image at the same corner."""
    if lesion.any():
        rows = picture(lesion)
        y, x = (start + 0.5 + np.arange(size) for start, size in zip(corner[::-1], rows.shape, strict=True))
        axes.contour(x, y, rows, [0.5], colors=[ABNORMAL], linewidths=lw)


def write_sheets(workdir: Path, rows: pd.DataFrame, store: str | Path) -> list[Path]:
    """Write `figures/contact_<split>.png` for each split of the manifest `rows`, whose samples are in `store`."""
    folder, written = workdir / "figures", []
    folder.mkdir(exist_ok=True)
    for split in (*manifest.SPLITS, manifest.UNLABELLED):
        if len(part := rows[rows.split == split]):
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
        draw(axes, image, (left, top), **greys(image))
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
    name = printable(row.patient)
    return (name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…") + ("\nflagged" if row.flag else "")
