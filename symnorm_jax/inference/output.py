"""What scoring leaves of each scan, and one table of all; names are plain, and no name of a person is a path.

    OUT/scores.tsv  excluded.tsv  index.html
    OUT/ID/score.json  map.nii.gz  lesions.nii.gz  brain.nii.gz  view.html  view.png  [lesions.dcm  map.dcm]

Names of BIDS derivatives are those of `derivatives.py`. The JSON of a scan is written last: where it and all others
stand the scan is done.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from symnorm_jax.data.volumes import Scan, save
from symnorm_jax.errors import RunError
from symnorm_jax.files import read_json, write_json, write_text
from symnorm_jax.inference import derivatives, dicom_out
from symnorm_jax.inference.derivatives import MARK
from symnorm_jax.inference.native import file_names
from symnorm_jax.inference.scorer import Result
from symnorm_jax.report.view import write_index, write_view

SCORES, EXCLUDED, INDEX = "scores.tsv", "excluded.tsv", "index.html"
PLAIN = {"score": "score.json", "map": "map.nii.gz", "lesions": "lesions.nii.gz", "brain": "brain.nii.gz"}
PLAIN |= {"view": "view.html"}  # and, beside it, view.png
DICOM = {"seg": "lesions.dcm", "parametric": "map.dcm"}  # where asked for
OF_MAPS = ("map", "lesions", *DICOM)  # which a system without maps does not make
Paths = dict[str, Path]  # of one scan, by the keys of PLAIN and perhaps DICOM


def paths_of(scans: list[Scan], output: Path, bids: bool, dicom: bool) -> list[Paths]:
    """Name the files of each scan, perhaps with those of DICOM."""
    if bids:
        return [derivatives.paths_of(scan, output) for scan in scans]
    named = PLAIN | (DICOM if dicom else {})
    names = file_names(pd.DataFrame([{"patient": scan.patient, "session": scan.session} for scan in scans]))
    folders = (output / names[scan.patient, scan.session] for scan in scans)
    return [{key: folder / name for key, name in named.items()} for folder in folders]


def done(paths: Paths, scan: Scan, made_of: str) -> bool:
    """Tell whether a scan was scored before, `made_of` the same, and all that was made is there.

    Raises RunError where another person's result is.
    """
    if not paths["score"].exists():
        return False
    there = read_json(paths["score"])
    if (there["patient"], there["session"]) != (scan.patient, scan.session):
        whose = "/".join(filter(None, (there["patient"], there["session"])))
        raise RunError(f"{paths['score']}: is of {whose!r}, not of {scan.name!r}; choose another --output.")
    expected = [path for key, path in paths.items() if there["map"] or key not in OF_MAPS]
    return there["made_of"] == made_of and all(path.exists() for path in (*expected, _still(paths["view"])))


def write(result: Result, paths: Paths, made_of: str, files: Sequence[str]) -> None:
    """Write what is said of a scan of these `files`, its images and its page."""
    paths["score"].unlink(missing_ok=True)  # until all is written again the scan is not done
    for name in DICOM.values():  # of another model, or of another brain
        paths["score"].with_name(name).unlink(missing_ok=True)
    for key in ("map", "lesions", "brain"):
        image = getattr(result, key)
        if image is not None:
            save(paths[key], image)
    about = {"id": _id(paths), **result.about, "made_of": made_of}
    if "seg" in paths and result.map is not None:
        dicom_out.write(result, files, paths["seg"], paths["parametric"], made_of)
    write_view(paths["view"], result.scan, result.brain, result.map, about)
    write_json(paths["score"], about)


def write_tables(output: Path, bids: bool, model: str, excluded: Collection[dict[str, str]]) -> pd.DataFrame:
    """Write the table of all scans in `output` that a model has scored, by checksum, and that of what was left out.

    The index of both is made anew with them.
    """
    found = sorted(output.glob(f"sub-*/**/*{MARK}{PLAIN['score']}" if bids else f"*/{PLAIN['score']}"))
    told = {path: _row(about) for path in found if (about := read_json(path))["model"] == model}
    rows, listed = pd.DataFrame(list(told.values())), pd.DataFrame(excluded)
    write_index(output / INDEX, [row | {"view": _view(path)} for path, row in told.items()], excluded)
    for name, table in ((SCORES, rows), (EXCLUDED, listed)):
        if len(table):
            write_text(output / name, table.to_csv(sep="\t", index=False))
        else:
            (output / name).unlink(missing_ok=True)
    if bids and len(rows):
        derivatives.describe(output, model)
    return rows


def _still(view: Path) -> Path:
    return view.with_suffix(".png")


def _id(paths: Paths) -> str:
    """The folder of a scan or, of derivatives, what the names of its files begin with."""
    name = paths["score"].name
    return paths["score"].parent.name if name == PLAIN["score"] else name.partition(MARK)[0]


def _view(score: Path) -> Path | None:
    """Find the page beside the JSON of a scan; None where somebody has taken it away."""
    view = score.with_name(score.name.removesuffix(PLAIN["score"]) + PLAIN["view"])
    return view if view.exists() else None


def _row(about: dict[str, Any]) -> dict[str, Any]:
    same = ("id", "patient", "session", "source", "verdict", "score", "score_name", "percentile", "healthy_people")
    rule, low = about["rule"], about["worst_slice"]
    return {key: about[key] for key in same} | {
        **{key: rule[key] for key in ("threshold", "promise")},
        "rule": f"{rule['name']} of {rule['level']}s",
        **{key: about[key] for key in ("probability", "prevalence")},
        "worst_slice": low["slice"],
        "worst_slice_mm": " ".join(map(str, low["centre_mm"])),
        "blobs": len(about["blobs"]),
        "blobs_ml": round(sum(blob["ml"] for blob in about["blobs"]), 4),
        "brain_from": about["brain_from"],
        "quality": "; ".join(f"{name} {one['value']:.4g}" for name, one in about["quality"].items()),
        "reason": "; ".join(filter(None, (*about["reasons"], about["flag"]))),
        "model": about["model"],
    }
