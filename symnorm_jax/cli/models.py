"""List the models that are here: of what and whom each was made, how good it was found, and whether it is whole.

examples:
  symnorm models
  symnorm models /data/models out/model

A model is the folder that `symnorm export` or `symnorm score --adapt` writes. It is looked for in the folders given,
or else in this one, and three folders down; those that come along are listed first. Each is read as `symnorm score
--model` reads it: files, SHA-256, format, shapes. The status is 1 where one cannot be used; its line says why.
"""

import os
from collections.abc import Iterator
from pathlib import Path

OPTIONS = {"folders": {"nargs": "*", "type": Path, "default": [Path(".")], "help": "where to look; here unless given"}}
DEPTH = 3  # folders below
HEADER = ["model", "contrast", "people", "license", "quality", "brain mask", "state"]


def run(args) -> int:
    from symnorm_jax.inference.shipped import FOLDER
    from symnorm_jax.report.table import Table

    if lost := [folder for folder in args.folders if not folder.is_dir()]:
        args.refuse(f"{lost[0]}: there is no such folder.")
    found = {top: [*_found(top)] for top in [FOLDER, *args.folders]}
    rows = [_row(folder) for folders in found.values() for folder in folders]
    Table("Models", HEADER, rows).print()
    for top in (top for top, folders in found.items() if not folders):
        print(f"{top}: no model is here, nor up to {DEPTH} folders down.")
    return int(any(row[1] is None for row in rows))


def _found(top: Path) -> Iterator[Path]:
    """Find the folders that hold a model, or a part of one."""
    from symnorm_jax.inference.model import PARTS, SUMS, WEIGHTS

    marks = {WEIGHTS, SUMS}, {f"{PARTS[-1]}.json"}  # a run has the others, and many programs write the first
    for path, folders, files in os.walk(top):
        below = len(Path(path).relative_to(top).parts)
        is_model = any(one <= set(files) for one in marks)
        folders[:] = [] if is_model or below == DEPTH else sorted(one for one in folders if not one.startswith("."))
        if is_model:
            yield Path(path)


def _row(folder: Path) -> list[str | None]:
    """Describe a model; of one that cannot be used there is the reason alone."""
    from symnorm_jax.errors import RunError, one_line
    from symnorm_jax.inference.card import license_of
    from symnorm_jax.inference.model import CARD, MODEL_FORMAT, of_folder
    from symnorm_jax.inference.shipped import FOLDER

    name = folder.name if folder.is_relative_to(FOLDER) else str(folder)
    try:
        model = of_folder(folder)
        licence = license_of((folder / CARD).read_text(encoding="utf-8"))
    except (RunError, OSError) as error:
        return [name, *[None] * (len(HEADER) - 2), one_line(error)]
    told = model.reference
    people = ", ".join(f"{count} {kind}" for kind, count in told["people"].items())
    contrast = ", ".join(told["contrast"]) or "not known"
    state = f"whole, format {MODEL_FORMAT}, {model.checksum}"
    return [name, contrast, people, licence, _quality(told["results"]), model.config.data.brain, state]


def _quality(results: dict) -> str:
    """Give the AUROC of the headline score on the test people of its run, of persons where it could be measured."""
    from symnorm_jax.report.table import bounds, number

    for level in ("patient", "sample"):
        found = results[level]["auroc"] if "auroc" in results.get(level, {}) else {"value": None}
        if found["value"] is not None:
            return f"AUROC of {level}s {number(found['value'])} {bounds(found)}".strip()
    return "not measured"
