"""The card of a model, `README.md`: a YAML head as model hubs read it, and what a user is to know."""

import json
import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from symnorm_jax.errors import RunError

LAST = "`reference.json` are not called: their verdict is `unknown`."
NEEDED = "No licence was named. Ask those who made the model before you use it or hand it on."


def card(name: str, config: ConfigDict, reference: dict, thresholds: dict, licence: str | None, about: str) -> str:
    """Write the card of a model, which `about` ends; what it says of people are counts.

    Its head is of JSON, which is YAML and keeps odd words whole.
    """
    rule, counts = thresholds["patient"][config.score.threshold], reference["people"]
    head = {"license": (licence or "unknown").lower(), "library_name": "symnorm_jax", "pipeline_tag": "other"}
    head |= {"tags": ["brain-mri", "anomaly-detection", config.system], "contrast": reference["contrast"]}
    head |= {"people": counts, "results": reference["results"]}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", f"# {name}", ""]
    lines += ["**Research use only. Not a medical device; not for diagnosis.**", ""]
    lines += [f"System `{config.system}` of symnorm_jax, score `{config.score.headline}`. Use it by", ""]
    lines += ["```", "symnorm score --model=FOLDER -i scan.nii.gz -o out", "```", ""]
    lines += [f"* Contrast, by the names of the training scans: {', '.join(reference['contrast']) or 'not known'}."]
    lines += [f"* Brain masks of the training scans: `{config.data.brain}`; samples of {config.data.spacing:g} mm."]
    lines += [f"* People: {', '.join(f'{count} {split}' for split, count in counts.items())}."]
    lines += [f"* Threshold of a person's score: `{config.score.threshold}`, {rule['value']}."]
    if adapted := reference.get("adapted"):
        lines += [
            f"* Adapted to {adapted['people']} healthy people of its user's own: healthy maps, Gaussian, thresholds and"
        ]
        lines += [
            f"  ranges are theirs, networks of the model {adapted['from']}. It has not been judged on ill people since."
        ]
    lines += [f"* {level}: {_told(values)}" for level, values in reference["results"].items()]
    lines += [f"* Licence: {licence}." if licence else f"* {NEEDED}"]
    lines += [f"* {one}" for one in reference.get("notes", [])]
    lines += ["", "Numbers hold for the test people of the run, and for nobody else. Scans out of the ranges in"]
    lines += [LAST, ""]
    return "\n".join(lines) + (f"\n{about.strip()}\n" if about.strip() else "")


def handed_on(folder: Path) -> tuple[str | None, str]:
    """Give licence and end of the card of a model's `folder`, which hold of what is made of it."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    licence, about = license_of(text), text.partition(LAST)[2].strip()
    return None if licence == "unknown" else licence, about and f"# {folder.name}, from which it was adapted\n\n{about}"


def license_of(text: str) -> str:
    """Read the licence out of a card's head. Raises RunError for a card without one."""
    found = re.search(r'^license: "(.*)"$', text, re.MULTILINE)
    if found is None:
        raise RunError("the card tells no license; export the model anew.")
    return found[1]


def _told(values: dict[str, dict[str, Any]]) -> str:
    shown = lambda value: "?" if value is None else f"{value:.3f}"  # noqa: E731
    each = ((name, *(shown(of[key]) for key in ("value", "low", "high"))) for name, of in values.items())
    return "; ".join(f"{name} {value} ({low}-{high})" for name, value, low, high in each)
