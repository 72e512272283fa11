"""What a run decides by, as tables: thresholds and what they promise, probabilities, and negative controls."""

from collections.abc import Iterable

from symnorm_jax.report.score_tables import label, share
from symnorm_jax.report.table import UNDEFINED, Table, interval, number
from symnorm_jax.scoring.thresholds import PARAMETER

NOBODY = "The test split has nobody to try it on."


def thresholds(fitted: dict, realised: dict, used: str, level: str) -> Table:
    """The card of a level: what each rule was fitted on and did on the test split; sentences say what it promises.

    `fitted` and `realised` are `{rule: ...}` as in `thresholds.json` and `metrics.json`; the rule `used` is marked.
    """
    header = ["rule", "value", "fitted on", "healthy", "abnormal", "patients"]
    header += [f"test: {what}" for what in delivered(level).values()]
    rows, notes = [], []
    for rule, fit in fitted.items():
        counts = [str(fit.get(kind, UNDEFINED)) for kind in ("healthy", "abnormal", "patients")]
        came = [share((realised.get(rule) or {}).get(kind)) for kind in delivered(level)]
        rows.append([rule_label(rule, fit, used), value(fit), origin(fit), *counts, *came])
        notes += promise(rule, fit, realised.get(rule))
    marked = (rule_label(used, fitted[used], used),)
    return Table(f"Thresholds at {level} level", header, rows, marked, tuple(notes))


def delivered(level: str) -> dict[str, str]:
    """What is counted on the test split; of patients a case is the patient, and both pairs the same."""
    if level == "patient":
        return {"healthy_patients": "healthy patients called", "abnormal_cases": "abnormal patients called"}
    return {
        "healthy_patients": f"healthy patients with a {level} called",
        "patients_with_healthy_cases": f"patients with a healthy {level} called",
        "healthy_cases": f"healthy {level}s called",
        "abnormal_cases": f"abnormal {level}s called",
    }


def rule_label(rule: str, fit: dict, used: str) -> str:
    """The rule's name with its parameter, and whether it is the one that decides."""
    name = PARAMETER.get(rule)
    with_parameter = f"{label(rule)}, {name} = {fit[name]:g}" if name in fit else label(rule)
    return f"{with_parameter} (in use)" if rule == used else with_parameter


def value(fit: dict) -> str:
    """A threshold with four significant digits, for scores differ in scale."""
    return UNDEFINED if fit["value"] is None else f"{fit['value']:.4g}"


def origin(fit: dict) -> str:
    """The split, or run and split, that a threshold was fitted on."""
    return "validation" if fit["origin"] == "val" else fit["origin"]


def promise(rule: str, fit: dict, realised: dict | None) -> list[str]:
    """Sentences: why there is no threshold, or what conformal promises and what came of it."""
    if fit["value"] is None:
        return [f"{label(rule)} has no threshold: {fit.get('reason', 'no reason is written down')}."]
    if not fit.get("promise"):
        return []
    low, high = fit["rate_95"]
    said = (
        f"{label(rule)} promises: {fit['promise']}. Expected is a rate of {number(fit['expected_rate'])}; that of this "
        f"very threshold lies between {number(low)} and {number(high)} with 95 % probability."
    )
    whom = "healthy_patients" if fit["calibrated_on"] == "healthy patients" else "patients_with_healthy_cases"
    found = (realised or {}).get(whom)
    tried = found and found["share"] is not None
    return [f"{said} {f'On the test split it was {interval(share(found))}.' if tried else NOBODY}"]


def by_group(fit: dict, level: str) -> Table | None:
    """Conformal thresholds of groups of people; None where there are none."""
    if not fit.get("by_group"):
        return None
    rows = [
        [group, UNDEFINED if at is None else f"{at:.4g}", str(fit["group_patients"][group])]
        + [fit["group_reasons"].get(group, "")]
        for group, at in fit["by_group"].items()
    ]
    caption = f"Conformal thresholds at {level} level by {', '.join(fit['groups'])}"
    return Table(caption, ["group", "value", "calibration patients", ""], rows)


def calibration(results: dict, levels: Iterable[str]) -> Table:
    """How far the probabilities of the headline score are right, at each level."""
    rows, notes = [], []
    for level in levels:
        found = results["calibration"][level]
        rows.append(
            [f"{level}s", found.get("method", UNDEFINED)]
            + [found.get(metric, UNDEFINED) for metric in ("brier", "expected_calibration_error")]
        )
        notes += [f"{level}s have no probabilities: {found['reason']}."] if "reason" in found else []
    header = ["", "method", "Brier score", "expected calibration error"]
    return Table("Probabilities of the headline score on the test split", header, rows, notes=tuple(notes))


def controls(found: dict) -> list[Table]:
    """`controls.json` as tables, one for each of its entries that is a row or a list of rows."""
    parts = {name: [entry] if isinstance(entry, dict) else entry for name, entry in found.items() if name != "notes"}
    return [_control(name, [row for row in rows if isinstance(row, dict)]) for name, rows in parts.items()]


def controls_in_brief(found: dict) -> Table:
    """All that was measured in one table: a row a number, which names its control and what sets the row apart."""
    rows = []
    for table in controls(found):
        for row in table.rows:
            named = list(zip(table.header, row, strict=True))
            about = ", ".join(f"{name} {one}" for name, one in named if not isinstance(one, dict))
            rows += [[about, name, one] for name, one in named if isinstance(one, dict)]
    return Table("Negative controls", ["", "measure", "value"], rows)


def _control(name: str, rows: list[dict]) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[label(name), *(_cell(row.get(column)) for column in columns)] for row in rows]
    return Table(f"Negative control: {label(name)}", ["control", *map(label, columns)], cells)


def _cell(content) -> dict | str:
    if isinstance(content, dict) and "value" in content:
        return content
    if content is None:
        return UNDEFINED
    return f"{content:.3g}" if isinstance(content, float) else str(content)
