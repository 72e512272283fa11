"""From the scores of a scan's slices to what is said of the person, by what the model's validation has fitted."""

from typing import Any

import numpy as np
import pandas as pd

from symnorm_jax.evaluation.cases import patient_cases
from symnorm_jax.inference import quality
from symnorm_jax.inference.model import Model
from symnorm_jax.scoring import calibration
from symnorm_jax.scoring.scores import ABOUT
from symnorm_jax.scoring.thresholds import threshold_of

TOLD = {  # of the rules that promise nothing
    "roc": "sensitivity plus specificity were highest",
    "max_accuracy": "accuracy was highest",
    "healthy_quantile": "a share {quantile:g} of the healthy lie below it",
    "mean_plus_k_sd": "it is {k:g} deviations above the mean of the healthy",
}


def of_person(slices: pd.DataFrame, groups: dict[str, str], doubts: list[str], model: Model) -> dict[str, Any]:
    """Say what the scores of `slices`, of a person of `groups`, come to: `normal` or `abnormal`, if there is no doubt.

    Where validation has no threshold for people, as without healthy ones, the highest slice is held against that for
    slices.
    """
    config, scores, name = model.config, model.reference["scores"], model.config.score.headline
    score, rule = person_score(slices, model), config.score.threshold
    level = "sample" if model.thresholds["patient"][rule]["value"] is None else "patient"
    fit, held = model.thresholds[level][rule], score if level == "patient" else float(slices[name].max())
    known = all(group in groups for group in fit["groups"]) if "groups" in fit else False
    person = pd.DataFrame([groups | {"patient": ""}])
    threshold = float(threshold_of(fit, person)[0]) if known else fit["value"]
    reasons = [*doubts, *quality.whole(slices, config, model.reference).values()]
    reasons += [f"the model has no threshold: {fit['reason']}"] if threshold is None else []
    called = "abnormal" if threshold is not None and held >= threshold else "normal"
    return {
        "verdict": "unknown" if reasons else called,
        "reasons": reasons,
        "score": score,
        "score_name": name,
        "of_slices": config.score.patient,
        "percentile": 100 * float(np.mean(np.less(scores["people"], score))) if scores["people"] else None,
        "healthy_people": len(scores["people"]),
        "rule": {"name": rule, "level": level, "threshold": threshold, "promise": promise(rule, fit)},
        **_probable(score, model),
    }


def person_score(slices: pd.DataFrame, model: Model) -> float:
    """Make the score of a person of those of `slices`, as the model's evaluation did."""
    name, how = model.config.score.headline, model.config.score
    known = {"session": "", "slice": 0, "brain_mm2": 0.0, "lesion_mm2": 0.0, "healthy_person": True}
    told = model.reference["scores"]["slices"]
    healthy = pd.DataFrame({"position": told["position"], name: told["score"]}, dtype=float)
    healthy = healthy.assign(**known, patient="", label="healthy", split="val")
    both = pd.concat([healthy, slices.assign(**known, patient="new", split="new")])[[*ABOUT, name]]
    return float(patient_cases(both, "new", how.patient, how.top_k)[name].iloc[0])


def promise(rule: str, fit: dict) -> str:
    """Say what a threshold promises, or that it promises nothing and what it was made from."""
    if rule in TOLD:
        whose = "validation" if fit["origin"] == "val" else fit["origin"]
        on = f"{fit['healthy']} healthy and {fit['abnormal']} abnormal cases of {whose}"
        return f"none; it was chosen on {on}, where {TOLD[rule].format(**fit)}"
    return fit["promise"] or "none"


def _probable(score: float, model: Model) -> dict[str, float | None]:
    """Give the probability that somebody with this score is ill, at the prevalence among validation people."""
    fit = model.calibration["patient"][model.config.score.calibration]
    if fit["parameters"] is None:
        return {"probability": None, "prevalence": None}
    found = float(calibration.apply(fit, np.array([score]))[0])
    return {"probability": found, "prevalence": fit["abnormal"] / (fit["abnormal"] + fit["healthy"])}
