"""Tables of what a run decides by: thresholds and what they promise, probabilities, and negative controls."""

from collections.abc import Iterable

from symnorm_jax.evaluation.measures import label
from symnorm_jax.report.score_tables import share
from symnorm_jax.report.table import Table, cell_text, number
from symnorm_jax.scoring.thresholds import PARAMETER

NOBODY = "The test split has nobody to try it on."


def thresholds(fitted: dict, realised: dict, used: str, level: str) -> Table:
    """Give what each rule was fitted on and did on the test split; the notes say what it promises.

    `fitted` and `realised` are `{rule: ...}` as in `thresholds.json` and `metrics.json`; the rule `used` is marked.
    """
    kinds = called_cases(level)
    header = ["rule", "value", "fitted on", "healthy", "abnormal", "patients", *(f"test: {x}" for x in kinds.values())]
    rows, notes = [], []
    for rule, fit in fitted.items():
        done = realised.get(rule) or {}
        came = [share(done.get(kind)) for kind in kinds]
        origin = "validation" if fit["origin"] == "val" else fit["origin"]
        counts = [fit.get(kind) for kind in ("healthy", "abnormal", "patients")]
        rows.append([rule_label(rule, fit, used), digits(fit["value"]), origin, *counts, *came])
        notes += promise(rule, fit, done)
    marked = (rule_label(used, fitted[used], used),)
    return Table(f"Thresholds at {level} level", header, rows, marked, tuple(notes))


def called_cases(level: str) -> dict[str, str]:
    """Name what is counted on the test split; of patients a case is the patient, and both pairs the same."""
    if level == "patient":
        return {"healthy_patients": "healthy patients called", "abnormal_cases": "abnormal patients called"}
    return {
        "healthy_patients": f"healthy patients with a {level} called",
        "patients_with_healthy_cases": f"patients with a healthy {level} called",
        "healthy_cases": f"healthy {level}s called",
        "abnormal_cases": f"abnormal {level}s called",
    }


def rule_label(rule: str, fit: dict, used: str) -> str:
    """Name a rule with its parameter, and say whether it is the one that decides."""
    name = PARAMETER.get(rule)
    with_parameter = f"{label(rule)}, {name} = {fit[name]:g}" if name in fit else label(rule)
    return f"{with_parameter} (in use)" if rule == used else with_parameter


def digits(value: float | None) -> str | None:
    """Write a threshold with four significant digits, for scores differ in scale."""
    return None if value is None else f"{value:.4g}"


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


def by_group(fit: dict, level: str) -> Table | None:
    """Give the conformal thresholds of groups of people; None where there are none."""
    if not fit.get("by_group"):
        return None
    rows = [
        [group, digits(value), fit["group_patients"][group], fit["group_reasons"].get(group, "")]
        for group, value in fit["by_group"].items()
    ]
    caption = f"Conformal thresholds at {level} level by {', '.join(fit['groups'])}"
    return Table(caption, ["group", "value", "calibration patients", ""], rows)


def calibration(results: dict, levels: Iterable[str]) -> Table:
    """Tell how far the probabilities of the headline score are right at each level."""
    found = {level: results["calibration"][level] for level in levels}
    columns = ("method", "brier", "expected_calibration_error")
    rows = [[f"{level}s", *(of.get(name) for name in columns)] for level, of in found.items()]
    notes = [f"{level}s have no probabilities: {of['reason']}." for level, of in found.items() if "reason" in of]
    header = ["", "method", "Brier score", "expected calibration error"]
    return Table("Probabilities of the headline score on the test split", header, rows, notes=tuple(notes))


def controls(found: dict) -> Table:
    """Give a row to each number of `controls.json`, which names its control and what sets the row apart."""
    rows = []
    for name, entry in found.items():
        for one in [entry] if isinstance(entry, dict) else entry if name != "notes" else ():
            about = [f"{label(key)} {x:.3g}" if isinstance(x, float) else f"{label(key)} {x}" for key, x in one.items()]
            kept = [said for said, x in zip(about, one.values(), strict=True) if not isinstance(x, dict)]
            rows += [[", ".join([label(name), *kept]), label(key), x] for key, x in one.items() if isinstance(x, dict)]
    return Table("Negative controls", ["control", "measure", "value"], rows)
