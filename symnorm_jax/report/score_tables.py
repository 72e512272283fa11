"""Tables of how well the scores of a run do, from its `metrics.json`."""

from symnorm_jax.evaluation.measures import Measure, label, of_level
from symnorm_jax.report.inputs import Files
from symnorm_jax.report.table import UNDEFINED, Table, cell_text, number
from symnorm_jax.scoring.scores import TRIVIAL, ZERO_SHOT, own
from symnorm_jax.statistics.intervals import Interval
from symnorm_jax.statistics.significance import non_inferiority

LEVELS = ("slice", "volume", "patient", "pixel", "lesion")  # in the order of tables
POPULATIONS = {"same": "like those trained on", "held out": "of the group held out", "abnormal": "not healthy"}


def verdict(files: Files) -> str:
    """Say in one sentence how the headline score does beside the best trivial score."""
    sample, headline = files.sample, files.headline
    found = {name: of.get(sample.primary) for name, of in files.results[sample.noun].items()}
    defined = {name: of for name, of in found.items() if of and of["value"] is not None}
    trivial = [name for name in defined if name.startswith(TRIVIAL)]
    if headline not in defined or not trivial:
        return f"How well {label(headline)} tells {sample.noun}s apart is undefined on this test split."
    best = max(trivial, key=lambda name: defined[name]["value"])
    return (
        f"{label(headline)} tells abnormal from healthy {sample.noun}s{sample.alike} with an AUROC of "
        f"{cell_text(defined[headline])}; of the trivial scores {label(best.removeprefix(TRIVIAL))} does best here, "
        f"with {cell_text(defined[best])}."
    )


def levels_told(files: Files) -> list[str]:
    """List the levels that have numbers, cases first."""
    return [level for level in LEVELS if level in files.results]


def in_brief(files: Files, level: str) -> Table:
    """Give the few measures of a level that fit on a terminal; scores of which none is defined are left out."""
    return _table(files, level, of_level(level, "terminal"), f"{level} level, test split")


def full(files: Files, level: str) -> list[Table]:
    """Give every measure of a level but the paired differences, first those that need no threshold.

    Scores of which nothing is defined are left out: at patient level all of them, where everybody is diseased.
    """
    measured = {name for metrics in files.results[level].values() for name in metrics} - {"prevalence"}
    tables = []
    for needs, part in ((False, "without a threshold"), (True, "at the threshold from validation")):
        columns = [x for x in of_level(level) if x.name in measured and (x.needs == "threshold") == needs]
        tables += [_table(files, level, columns, f"{level.capitalize()} level, {part}")] if columns else []
    return tables


def _table(files: Files, level: str, columns: list[Measure], caption: str) -> Table:
    found = {name: [of.get(one.name) for one in columns] for name, of in files.results[level].items()}
    rows = [[label(name), *cells] for name, cells in found.items() if any(x and x["value"] is not None for x in cells)]
    undefined = [x for cells in found.values() for x in cells if x and x["value"] is None]
    notes = [f"{UNDEFINED}: {x['reason']}" for x in undefined if x.get("reason")]
    marked = (label(files.headline), label("map"))
    return Table(caption, ["score", *(x.label for x in columns)], rows, marked, tuple(dict.fromkeys(notes)))


def prediction(files: Files) -> Table | None:
    """Tell how well a target is predicted of test people, a row a population; None without a target."""
    if "prediction" not in files.results:
        return None
    found, target = files.results["prediction"], files.config.target
    columns = {measure.name: measure.label for measure in of_level(target.kind)}
    rows = [[f"{POPULATIONS[name]}, {of['patients']}", *map(of.get, columns)] for name, of in found.items()]
    unit = f"{target.column}, a number in its own unit"
    what = unit if target.kind == "number" else f"{target.column}={target.positive}, a class; at a probability of 0.5"
    return Table(f"Predicted of test people: {what}", ["people", *columns.values()], rows)


def summary(files: Files) -> Table:
    """Give a row to every score and trivial score: what it tells at each level, and what it costs.

    A trivial score passes through no network; the cost of a source run stands in that run.
    """
    results, noun = files.results, files.sample.noun
    levels = [level for level in (noun, "patient", "pixel") if level != "patient" or level in results]
    columns = [(level, one) for level in levels for one in of_level(level, "summary")]
    rows = []
    for name in sorted(dict.fromkeys([*results[noun], *results.get("pixel", {})]), key=lambda name: not own(name)):
        cells = [results.get(level, {}).get(name, {}).get(one.name) for level, one in columns]
        passes = files.cost.get("passes") if own(name) else None if name == ZERO_SHOT else 0
        network = [files.cost.get(what) if own(name) else None for what in ("seconds_per_sample", "parameters")]
        rows.append([label(name), *cells, passes, *network])
    titles = []
    for level, one in columns:
        found = results.get(level, {}).get("map" if level == "pixel" else files.headline, {}).get("prevalence")
        known = one.name == "average_precision" and found and found["value"] is not None
        titles.append(f"{level}s: {one.label}" + (f" (prevalence {number(found['value'])})" if known else ""))
    costs = [f"passes a {noun}", f"seconds a {noun}", "parameters"]
    return Table("All scores on the test split", ["score", *titles, *costs], rows, (label(files.headline),))


def differences(files: Files) -> Table:
    """Give the headline score minus each trivial score on the same replicates, and what the interval says of it."""
    decides = {files.sample.noun: files.sample.primary} | ({"patient": "auroc"} if "patient" in files.results else {})
    margin, found = files.config.evaluation.margin, [files.results[level][files.headline] for level in decides]
    gaps = [{name.split("_minus_")[1]: gap for name, gap in of.items() if "_minus_" in name} for of in found]
    rows = []
    for other in dict.fromkeys(name for of in gaps for name in of):
        pairs = [(of.get(other), _verdict(of.get(other), margin)) for of in gaps]
        rows.append([label(other), *sum(pairs, ())])
    columns = [(f"{level}s: difference in {label(metric)}", "verdict") for level, metric in decides.items()]
    note = (
        f"Superior: the interval lies above 0. Non-inferior: above −{margin:g}, the loss named in the config before "
        f"anything was measured. Nothing is corrected for the number of comparisons."
    )
    caption = f"{label(files.headline)} minus each trivial score, paired"
    return Table(caption, ["score", *sum(columns, ())], rows, notes=(note,))


def _verdict(gap: dict | None, margin: float) -> str | None:
    known = gap and gap["low"] is not None
    return non_inferiority(Interval(gap["value"], gap["low"], gap["high"]), margin) if known else None


def groups(files: Files) -> list[Table]:
    """Give the headline score within each group of people, at its threshold, a table a level and column."""
    about, told = ("patients", "cases", "abnormal"), files.results["groups"]
    called = {"healthy_patients": "healthy patients with a case called", "healthy_cases": "healthy cases called"}
    called |= {"abnormal_cases": "sensitivity"}
    tables = []
    for level, column in [(level, column) for level, columns in told.items() for column in columns]:
        metric, rows = files.sample.primary if level == files.sample.noun else "auroc", []
        for group, of in told[level][column].items():
            rates = [share((of["realised"] or {}).get(kind)) for kind in called]
            rows.append([group, *(of[name] for name in about), of[metric], *rates])
        header = ["group", *about, label(metric), *called.values()]
        tables.append(Table(f"{level.capitalize()} level by {column}", header, rows))
    return tables


def share(found: dict | None) -> dict | None:
    """Give counts of `thresholds.realised` as a cell."""
    if not found or found["share"] is None:
        return None
    return found | {"value": found["share"], "count": f"{found['called']} of {found['of']}"}
