"""A comparison as people read it: Markdown, CSV, LaTeX and a figure, all from the one JSON."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from symnorm_jax.files import whole, write_json, write_text
from symnorm_jax.report.table import UNDEFINED, Table, interval, plain
from symnorm_jax.scoring.scores import own

OF_ALL = {"pixels, AP": ("pixel", "average_precision")}
OF_PATIENTS = {"patients, AUROC": ("patient", "auroc")}
OF_SAMPLES = {"AUROC": ("sample", "auroc"), "AP": ("sample", "average_precision")}
QUALITY = {  # what is judged: {column: where it stands in a line}, the column that decides first
    "slice": {"AUROC within position": ("sample", "auroc_within_position")} | OF_SAMPLES | OF_PATIENTS | OF_ALL,
    "volume": OF_SAMPLES | OF_PATIENTS | OF_ALL,
    "patient": OF_PATIENTS | {"patients, AP": ("patient", "average_precision")} | OF_ALL,
}
PAIRED = (
    *("difference", "p", "p, Holm", "verdict", "AUROC, DeLong", "p, DeLong"),
    *("accuracy", "p, McNemar", "patients, AUROC", "pixels, AP"),
)


def write(compared: dict, folder: Path) -> list[Path]:
    """Write `comparison.{json,md,csv,tex,png}` into a folder, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"comparison.{kind}" for kind in ("json", "md", "csv", "tex", "png")]
    quality, pairs = quality_table(compared), paired_table(compared)
    write_json(paths[0], compared)
    write_text(paths[1], "\n\n".join([_sentence(compared), markdown(quality), markdown(pairs)]) + "\n")
    write_text(paths[2], numbers(compared).to_csv(index=False))
    latex = [table.to_latex(index=False, escape=True) for table in (quality, pairs)]
    write_text(paths[3], "\n".join([f"% {_judged(compared)}", *latex]).replace(UNDEFINED, "--"))
    with whole(paths[4]) as partial:
        forest(compared).savefig(partial, dpi=120, bbox_inches="tight")
    return paths


def case(compared: dict) -> str:
    """What is judged: `slice`, `volume` or `patient`."""
    return "patient" if compared["level"] == "patient" else compared["sample"]


def quality_table(compared: dict) -> pd.DataFrame:
    """One line a method: its quality with 95 % intervals, the reference minus it, and what a case costs it.

    The column that decides comes after the name; columns in which nothing is defined are left out.
    """
    first, *others = QUALITY[case(compared)].items()
    rows = []
    for line in compared["lines"]:
        row = {"method": _named(line, compared), first[0]: interval(_at(line, first[1]))}
        row[f"{compared['reference']} minus it"] = (
            interval(line["paired"]["difference"]) if "paired" in line else UNDEFINED
        )
        row |= {column: interval(_at(line, path)) for column, path in others}
        rows.append(row | _expense(line["cost"], case(compared)))
    table = pd.DataFrame(rows)
    return table.loc[:, (table != UNDEFINED).any()]


def paired_table(compared: dict) -> pd.DataFrame:
    """One line a rival: the reference minus it, with tests and the verdict on non-inferiority."""
    rows = []
    for line in compared["lines"][1:]:
        of = line["paired"]
        cells = [interval(of["difference"]), p_value(of["p_value"]), p_value(of["p_value_holm"]), of["verdict"]]
        cells += [interval(of["auroc"]), p_value(of["auroc"]["p_value"])]
        cells += [interval(of["accuracy"]), p_value(of["accuracy"]["p_value"])]
        cells += [interval(of.get("patient")), interval(of["pixel"])]
        first = {f"{compared['reference']} minus": _named(line, compared)}
        rows.append(first | dict(zip(PAIRED, cells, strict=True)))
    table = pd.DataFrame(rows, columns=[f"{compared['reference']} minus", *PAIRED])
    return table if compared["level"] == "sample" else table.loc[:, (table != UNDEFINED).any()]


def brief(compared: dict) -> list[Table]:
    """The two tables for the terminal: the method, what decides and costs; and the first columns of the pairs."""
    quality, pairs = quality_table(compared), paired_table(compared)
    decides = next(iter(QUALITY[case(compared)]))
    first = [name for name in quality if name in ("method", decides) or name.startswith(("passes", "ms"))]
    return [Table("", list(one), one.to_numpy().tolist()) for one in (quality[first], pairs.iloc[:, :5])]


def numbers(compared: dict) -> pd.DataFrame:
    """Every number of the two tables and more, to six digits, a column each; `level` says of which cases."""
    table = pd.json_normalize(compared["lines"], sep=".")
    table.insert(1, "level", compared["level"])
    return table


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.map(plain).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def p_value(value: float | None) -> str:
    """A p-value to three decimals, `<0.001` below them."""
    return UNDEFINED if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def forest(compared: dict) -> Figure:
    """The primary metric of every method, and the paired differences from the reference, with the margin."""
    lines = compared["lines"][::-1]
    figure = Figure(figsize=(11, 0.36 * len(lines) + 1.6))
    left, right = figure.subplots(1, 2, sharey=True)
    _whiskers(left, [line[compared["level"]][compared["metric"]] for line in lines])
    none = {"value": None, "low": None, "high": None}
    _whiskers(right, [line["paired"]["difference"] if "paired" in line else none for line in lines])
    left.axvline(0.5, color="0.8", lw=1, zorder=0)
    right.axvline(0, color="0.8", lw=1, zorder=0)
    right.axvline(-compared["margin"], color="#c8553d", lw=1, ls="--", zorder=0)
    left.set(yticks=range(len(lines)), yticklabels=[line["name"] for line in lines])
    left.set_xlabel(compared["metric"].replace("_", " "))
    right.set_xlabel(f"{compared['reference']} minus the other; dashed: margin of {compared['margin']:g}")
    figure.suptitle(f"{_judged(compared)}, 95 % intervals", fontsize=10)
    figure.tight_layout()
    return figure


def _whiskers(axes, values: list[dict]) -> None:
    for place, found in enumerate(values):
        if found["value"] is None:
            continue
        axes.plot(found["value"], place, "o", color="#3b6fb6")
        if found["low"] is not None:
            axes.plot([found["low"], found["high"]], [place, place], color="#3b6fb6", lw=1.5)


def _named(line: dict, compared: dict) -> str:
    """The name of a method, of a run with its score, and a star for the best rival on validation."""
    score = f", {line['score']}" if own(line["score"]) else ""
    return line["name"] + score + ("*" if line["name"] == compared["best_on_validation"] else "")


def _at(line: dict, path: tuple[str, str]) -> dict | None:
    part, metric = path
    return line[part].get(metric)


def _expense(cost: dict, what: str) -> dict[str, str]:
    """Passes, milliseconds and parameters; of a patient those of all its slices."""
    per = "_per_patient" if what == "patient" else ""
    seconds = cost["seconds_per_patient" if per else "seconds_per_sample"]
    return {
        "passes a patient" if per else "passes": f"{cost[f'passes{per}']:.0f}",
        f"ms a {what}": UNDEFINED if seconds is None else f"{1000 * seconds:.1f}",
        "parameters": f"{cost['parameters'] / 1e6:.2f} M" if cost["parameters"] else UNDEFINED,
    }


def _judged(compared: dict) -> str:
    """The level, and how many test cases there are."""
    what, people = case(compared), f"{compared['patients']} patients"
    if what == "patient":
        return f"Patient level: {people} of the test split"
    return f"{what.capitalize()} level: {compared['samples']} test {what}s of {people}"


def _sentence(compared: dict) -> str:
    metric = compared["metric"].replace("_", " ")
    return (
        f"{_judged(compared)}; 95 % intervals from a bootstrap over "
        f"patients. Differences are {compared['reference']} minus the other in {metric}; non-inferior means that a "
        f"loss of {compared['margin']:g} is excluded. \\* is the best rival on validation: "
        f"{compared['best_on_validation']}."
    )
