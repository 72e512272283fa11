"""A comparison as people read it: Markdown, CSV, LaTeX and figures, all from the one JSON."""

from pathlib import Path

import pandas as pd

from symnorm_jax.compare import figures
from symnorm_jax.evaluation.measures import label, of_level
from symnorm_jax.files import write_json, write_text
from symnorm_jax.report.figures import save
from symnorm_jax.report.table import Table, markdown_text, p_value
from symnorm_jax.scoring.scores import own

ENDINGS = ("json", "md", "csv", "tex", "png")


def write(compared: dict, folder: Path) -> list[Path]:
    """Write `comparison.{json,md,csv,tex,png}` and `comparison_cost.png` into a folder, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, tables = {x: folder / f"comparison.{x}" for x in ENDINGS}, [quality(compared), pairs(compared)]
    write_json(paths["json"], compared)
    said = markdown_text(" ".join(sentences(compared)))
    write_text(paths["md"], "\n\n".join([said, *(table.markdown() for table in tables)]) + "\n")
    write_text(paths["csv"], numbers(compared).to_csv(index=False))
    write_text(paths["tex"], "\n".join([f"% {judged(compared)}", *(table.latex() for table in tables)]))
    save(figures.forest(compared, judged(compared)), paths["png"], dpi=120)
    paths["cost"] = folder / "comparison_cost.png"
    save(figures.cost(compared, judged(compared)), paths["cost"], dpi=120)
    return list(paths.values())


def quality(compared: dict, tested: bool = False) -> Table:
    """Give a row to each method: its quality, the reference minus it, and what a case costs it.

    The measure that decides comes first, of levels that are not judged there is only the first. The difference has its
    p and verdict if `tested`. Columns in which nothing is defined are left out.
    """
    what = compared["case"]
    columns = {one.label: (compared["level"], one.name) for one in of_level(what, "comparison")}
    for level, most in (("patient", 1), ("pixel", None), ("lesion", None)):
        some = [] if level == what else of_level(level, "comparison")[:most]
        columns |= {f"{level}s, {one.label}": (level, one.name) for one in some}
    gaps = [f"{compared['reference']} minus it", *(("p, Holm", "verdict") if tested else ())]
    rows, titles = [], list(columns)
    for line in compared["lines"]:
        first, *others = (line[level].get(name) for level, name in columns.values())
        rows.append([_named(line, compared), first, *_tested(line)[: len(gaps)], *others, *_costs(line["cost"])])
    costs = ["passes a patient" if what == "patient" else "passes", f"ms a {what}", "parameters"]
    return Table("Quality", ["method", titles[0], *gaps, *titles[1:], *costs], rows).dense()


def pairs(compared: dict) -> Table:
    """Give a row to each rival and trivial score: the reference minus it, and the verdict on non-inferiority."""
    columns = ["difference", "p, Holm", "verdict", label("auroc" if compared["runs"] > 1 else "auroc_delong")]
    columns += [f"patients, {label('auroc')}", f"pixels, {label('average_precision')}"]
    rows = []
    for line in compared["lines"][1:]:
        of = line["paired"]
        p = of["auroc"]["p_value"]
        delong = of["auroc"] | ({} if p is None else {"count": f"p {p_value(p)}"})
        rows.append([_named(line, compared), *_tested(line), delong, of.get("patient"), of["pixel"]])
    return Table("Paired differences", [f"{compared['reference']} minus", *columns], rows).dense()


def brief(compared: dict) -> list[Table]:
    """Give what fits on a terminal: what decides and costs of each method, and what its difference says."""
    table, wide = quality(compared), pairs(compared)
    costs = [name for name in table.header if name.startswith(("passes", "ms"))]
    return [table.only([*table.header[:2], *costs]), wide.only(wide.header[:4])]


def numbers(compared: dict) -> pd.DataFrame:
    """Give every number of the tables and more, to six digits, a column each; `level` says of which cases."""
    table = pd.json_normalize(compared["lines"], sep=".")
    table.insert(1, "level", compared["level"])
    return table


def judged(compared: dict) -> str:
    """Say the level, and how many test cases there are."""
    what = compared["case"]
    people = "" if what == "patient" else f" of {compared['patients']} patients"
    parts = f", means over {compared['runs']} runs" if compared["runs"] > 1 else ""
    return f"{what.capitalize()} level: {compared['cases']} test {what}s{people}{parts}"


def sentences(compared: dict) -> list[str]:
    """Say what the tables show."""
    best, loss = compared["best_on_validation"], f"a loss of {compared['margin']:g} is excluded"
    gap = f"Differences are {compared['reference']} minus the other in {label(compared['metric'])}"
    said = [f"{judged(compared)}; 95 % intervals from a bootstrap over patients."]
    said += [f"{gap}; non-inferior means that {loss}."]
    said += [f"Maps are post-processed: {', '.join(compared['postprocess'])}."] if compared["postprocess"] else []
    return said + compared["notes"] + ([f"* is the best rival on validation: {best}."] if best else [])


def _named(line: dict, compared: dict) -> str:
    """The name of a method, of a run with its score, and a star for the best rival on validation."""
    score = f", {line['score']}" if own(line["score"]) and not line["name"].endswith(f", {line['score']}") else ""
    return line["name"] + score + ("*" if line["name"] == compared["best_on_validation"] else "")


def _tested(line: dict) -> list:
    """The reference minus a line, its p and the verdict; nothing of the reference itself."""
    of = line.get("paired", {})
    return [of.get("difference"), p_value(of.get("p_value_holm")), of.get("verdict")]


def _costs(cost: dict) -> list[str | None]:
    """Write passes, milliseconds and parameters; a patient costs as much as all its samples."""
    passes, parameters = cost.get("passes", cost.get("passes_per_patient")), cost["parameters"]
    seconds = cost.get("seconds_per_patient", cost.get("seconds_per_sample"))
    shown = None if seconds is None else f"{1000 * seconds:.1f}"
    return [f"{passes:.0f}", shown, f"{parameters / 1e6:.2f} M" if parameters else None]
