"""Tables of a run: how well its scores do, what it decides by, probabilities, and negative controls."""

from symnorm_jax.evaluation.measures import Measure, label, of_level
from symnorm_jax.report.inputs import Files
from symnorm_jax.report.table import UNDEFINED, Table, cell_text, number
from symnorm_jax.scoring.scores import TRIVIAL, ZERO_SHOT, own
from symnorm_jax.scoring.thresholds import PARAMETER
from symnorm_jax.statistics.intervals import Interval
from symnorm_jax.statistics.significance import non_inferiority

UNCORRECTED = "Nothing is corrected for the number of comparisons."
NOBODY = "The test split has nobody to try it on."
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
    ours, theirs = cell_text(defined[headline]), cell_text(defined[best])
    told = f"{label(headline)} tells abnormal from healthy {sample.noun}s{sample.alike} with an AUROC of {ours}"
    return f"{told}; of the trivial scores {label(best.removeprefix(TRIVIAL))} does best here, with {theirs}."


def levels_told(files: Files) -> list[str]:
    """List the levels that have numbers, cases first."""
    return [level for level in LEVELS if level in files.results]


def in_brief(files: Files, level: str) -> Table:
    """Give the few measures of a level that fit on a terminal; scores of which none is defined are left out."""
    return _table(files, level, _short(files, level, "terminal"), f"{level} level, test split")


def full(files: Files, level: str) -> list[Table]:
    """Give every measure of a level but the paired differences, first those that need no threshold."""
    # Scores of which nothing is defined are left out: at patient level all of them, where everybody is diseased.
    measured = {name for metrics in files.results[level].values() for name in metrics} - {"prevalence"}
    tables = []
    for needs, part in ((False, "without a threshold"), (True, "at the threshold from validation")):
        columns = [x for x in of_level(level) if x.name in measured and (x.needs == "threshold") == needs]
        tables += [_table(files, level, columns, f"{level.capitalize()} level, {part}")] if columns else []
    return tables


def _short(files: Files, level: str, place: str) -> list[Measure]:
    """List what a short table shows of a level; of pairs within people only where there are any."""
    measured = {name for of in files.results.get(level, {}).values() for name in of}
    return [one for one in of_level(level, place) if one.needs != "pairs" or one.name in measured]


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
    of_class = f"={target.positive}, a class; at a probability of 0.5"
    what = target.column + (", a number in its own unit" if target.kind == "number" else of_class)
    return Table(f"Predicted of test people: {what}", ["people", *columns.values()], rows)


def summary(files: Files) -> Table:
    """Give a row to every score and trivial score: what it tells at each level, and what it costs."""
    results, noun = files.results, files.sample.noun
    levels = [level for level in (noun, "patient", "pixel") if level != "patient" or level in results]
    columns = [(level, one) for level in levels for one in _short(files, level, "summary")]
    rows = []
    for name in sorted(dict.fromkeys([*results[noun], *results.get("pixel", {})]), key=lambda name: not own(name)):
        cells = [results.get(level, {}).get(name, {}).get(one.name) for level, one in columns]
        # A trivial score passes through no network; the cost of a source run stands in that run.
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
    loss = f"above −{margin:g}, the loss named in the config before anything was measured"
    note = f"Superior: the interval lies above 0. Non-inferior: {loss}. {UNCORRECTED}"
    caption = f"{label(files.headline)} minus each trivial score, paired"
    return Table(caption, ["score", *sum(columns, ())], rows, notes=(note,))


def _verdict(gap: dict | None, margin: float) -> str | None:
    known = gap and gap["low"] is not None
    return non_inferiority(Interval(gap["value"], gap["low"], gap["high"]), margin) if known else None


def groups(files: Files) -> list[Table]:
    """Give the headline score within each group of people, at its threshold, a table a level and column."""
    about, told, tables = ("patients", "cases", "abnormal"), files.results["groups"], []
    called = {"healthy_patients": "healthy patients with a case called", "healthy_cases": "healthy cases called"}
    called |= {"abnormal_cases": "sensitivity"}
    for level, column in [(level, column) for level, columns in told.items() for column in columns]:
        metric, rows = files.sample.primary if level == files.sample.noun else "auroc", []
        for group, of in told[level][column].items():
            rates = [_share((of["realised"] or {}).get(kind)) for kind in called]
            rows.append([group, *(of[name] for name in about), of[metric], *rates])
        header = ["group", *about, label(metric), *called.values()]
        tables.append(Table(f"{level.capitalize()} level by {column}", header, rows))
    return tables


def _share(found: dict | None) -> dict | None:
    """Give counts of `thresholds.realised` as a cell."""
    known = found and found["share"] is not None
    return found | {"value": found["share"], "count": f"{found['called']} of {found['of']}"} if known else None


def thresholds(files: Files, level: str) -> Table:
    """Give what each rule was fitted on and did on the test split; the notes say what it promises."""
    kinds, used, rows, notes = _called_cases(level), files.config.score.threshold, {}, []
    for rule, fit in files.rules(level).items():
        done = files.results["thresholds"][level].get(rule) or {}
        origin = "validation" if fit["origin"] == "val" else fit["origin"]
        counts = [fit.get(kind) for kind in ("healthy", "abnormal", "patients")]
        parameter = PARAMETER.get(rule)
        name = label(rule) + (f", {parameter} = {fit[parameter]:g}" if parameter in fit else "")
        name += " (in use)" if rule == used else ""
        rows[rule] = [name, fit["value"], origin, *counts, *(_share(done.get(kind)) for kind in kinds)]
        notes += _promise(rule, fit, done)
    header = ["rule", "value", "fitted on", "healthy", "abnormal", "patients", *(f"test: {x}" for x in kinds.values())]
    return Table(f"Thresholds at {level} level", header, list(rows.values()), (rows[used][0],), tuple(notes))


def _called_cases(level: str) -> dict[str, str]:
    """What is counted on the test split; of patients a case is the patient, and both pairs the same."""
    if level == "patient":
        return {"healthy_patients": "healthy patients called", "abnormal_cases": "abnormal patients called"}
    cases = {f"{kind}_cases": f"{kind} {level}s called" for kind in ("healthy", "abnormal")}
    patients = {"healthy_patients": "healthy patients with a", "patients_with_healthy_cases": "patients with a healthy"}
    return {kind: f"{whom} {level} called" for kind, whom in patients.items()} | cases


def _promise(rule: str, fit: dict, realised: dict) -> list[str]:
    """Say why there is no threshold, or what conformal promises and what came of it; nothing of other rules."""
    if fit["value"] is None:
        return [f"{label(rule)} has no threshold: {fit.get('reason', 'no reason is written down')}."]
    if not fit.get("promise"):
        return []
    low, high = map(number, fit["rate_95"])
    said = f"{label(rule)} promises: {fit['promise']}. Expected is a rate of {number(fit['expected_rate'])}"
    said = f"{said}; that of this very threshold lies between {low} and {high} with 95 % probability."
    whom = "healthy_patients" if fit["calibrated_on"] == "healthy patients" else "patients_with_healthy_cases"
    came = _share(realised.get(whom))
    return [f"{said} {f'On the test split it was {cell_text(came)}.' if came else NOBODY}"]


def by_group(files: Files, level: str) -> Table | None:
    """Give the conformal thresholds of groups of people; None where there are none."""
    fit = files.rules(level)[files.config.score.threshold]
    if not fit.get("by_group"):
        return None
    caption = f"Conformal thresholds at {level} level by {', '.join(fit['groups'])}"
    patients, reasons = fit["group_patients"], fit["group_reasons"]
    rows = [[name, value, patients[name], reasons.get(name, "")] for name, value in fit["by_group"].items()]
    return Table(caption, ["group", "value", "calibration patients", ""], rows)


def calibration(files: Files) -> Table:
    """Tell how far the probabilities of the headline score are right at each level."""
    found = {level: files.results["calibration"][level] for level in files.levels.values()}
    columns = {"method": "method", "brier": "Brier score", "expected_calibration_error": "expected calibration error"}
    rows = [[f"{level}s", *map(of.get, columns)] for level, of in found.items()]
    notes = [f"{level}s have no probabilities: {of['reason']}." for level, of in found.items() if "reason" in of]
    title = "Probabilities of the headline score on the test split"
    return Table(title, ["", *columns.values()], rows, notes=tuple(notes))


def controls(files: Files) -> Table:
    """Give a row to each number of `controls.json`, which names its control and what sets the row apart."""
    rows = []
    for name, entry in ((files.controls or {}) | {"notes": []}).items():
        for one in [entry] if isinstance(entry, dict) else entry:
            about = [f"{label(key)} {cell_text(x)}" for key, x in one.items() if not isinstance(x, dict)]
            rows += [[", ".join([label(name), *about]), label(key), x] for key, x in one.items() if isinstance(x, dict)]
    return Table("Negative controls", ["control", "measure", "value"], rows)
