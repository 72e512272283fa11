"""Tables of what a run decides by: thresholds and what they promise, probabilities, and negative controls."""

from symnorm_jax.evaluation.measures import label
from symnorm_jax.report.inputs import Files
from symnorm_jax.report.score_tables import share
from symnorm_jax.report.table import Table, cell_text, number
from symnorm_jax.scoring.thresholds import PARAMETER

NOBODY = "The test split has nobody to try it on."


def thresholds(files: Files, level: str) -> Table:
    """Give what each rule was fitted on and did on the test split; the notes say what it promises."""
    kinds, realised, used = called_cases(level), files.results["thresholds"][level], files.config.score.threshold
    rows, notes = {}, []
    for rule, fit in files.rules(level).items():
        done = realised.get(rule) or {}
        came = [share(done.get(kind)) for kind in kinds]
        origin = "validation" if fit["origin"] == "val" else fit["origin"]
        counts = [fit.get(kind) for kind in ("healthy", "abnormal", "patients")]
        parameter = PARAMETER.get(rule)
        name = label(rule) + (f", {parameter} = {fit[parameter]:g}" if parameter in fit else "")
        rows[rule] = [f"{name} (in use)" if rule == used else name, fit["value"], origin, *counts, *came]
        notes += promise(rule, fit, done)
    header = ["rule", "value", "fitted on", "healthy", "abnormal", "patients", *(f"test: {x}" for x in kinds.values())]
    return Table(f"Thresholds at {level} level", header, list(rows.values()), (rows[used][0],), tuple(notes))


def called_cases(level: str) -> dict[str, str]:
    """Name what is counted on the test split; of patients a case is the patient, and both pairs the same."""
    if level == "patient":
        return {"healthy_patients": "healthy patients called", "abnormal_cases": "abnormal patients called"}
    cases = {f"{kind}_cases": f"{kind} {level}s called" for kind in ("healthy", "abnormal")}
    patients = {"healthy_patients": "healthy patients with a", "patients_with_healthy_cases": "patients with a healthy"}
    return {kind: f"{whom} {level} called" for kind, whom in patients.items()} | cases


def promise(rule: str, fit: dict, realised: dict) -> list[str]:
    """Say why there is no threshold, or what conformal promises and what came of it; nothing of other rules."""
    if fit["value"] is None:
        return [f"{label(rule)} has no threshold: {fit.get('reason', 'no reason is written down')}."]
    if not fit.get("promise"):
        return []
    low, high = map(number, fit["rate_95"])
    said = (
        f"{label(rule)} promises: {fit['promise']}. Expected is a rate of {number(fit['expected_rate'])}; that of this "
        f"very threshold lies between {low} and {high} with 95 % probability."
    )
    whom = "healthy_patients" if fit["calibrated_on"] == "healthy patients" else "patients_with_healthy_cases"
    came = share(realised.get(whom))
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
    columns = ("method", "brier", "expected_calibration_error")
    rows = [[f"{level}s", *map(of.get, columns)] for level, of in found.items()]
    notes = [f"{level}s have no probabilities: {of['reason']}." for level, of in found.items() if "reason" in of]
    header = ["", "method", "Brier score", "expected calibration error"]
    return Table("Probabilities of the headline score on the test split", header, rows, notes=tuple(notes))


def controls(files: Files) -> Table:
    """Give a row to each number of `controls.json`, which names its control and what sets the row apart."""
    rows = []
    for name, entry in ((files.controls or {}) | {"notes": []}).items():
        for one in [entry] if isinstance(entry, dict) else entry:
            about = [f"{label(key)} {cell_text(x)}" for key, x in one.items() if not isinstance(x, dict)]
            rows += [[", ".join([label(name), *about]), label(key), x] for key, x in one.items() if isinstance(x, dict)]
    return Table("Negative controls", ["control", "measure", "value"], rows)
