"""Many scans, one after another: what is done is not done again, and what cannot be used stops nobody else."""

from collections.abc import Iterator
from pathlib import Path

import joblib
import pandas as pd
from absl import logging

from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.data.volumes import Scan, digest
from symnorm_jax.errors import InputError, ScanError, one_line
from symnorm_jax.files import remove_partial
from symnorm_jax.inference import output as out
from symnorm_jax.inference.reading import Prepared, prepared
from symnorm_jax.inference.scorer import Scorer
from symnorm_jax.progress import progress
from symnorm_jax.rundir import claimed


def score(
    scorer: Scorer, scans: list[Scan], output: Path, kind: str, jobs: int, bids: bool, dicom: bool
) -> pd.DataFrame:
    """Score scans into the folder `output`, with brain masks of a `kind`, and give the rows of its table.

    With `dicom` they are series, and DICOM is written too. `jobs` processes cut scans while this one runs the
    networks. Raises ScanError where no scan of all can be used, and RunError where another process is in the folder or
    another person's result would be overwritten.
    """
    with claimed(output, "--output"):
        remove_partial(output)
        excluded, todo = [], []
        for scan, paths in zip(scans, out.paths_of(scans, output, bids, dicom), strict=True):
            key = made_of(scan, kind, scorer)
            if key is None or not out.done(paths, scan, key):
                todo.append((scan, paths, key))
        for scan, paths, key, made in _cut(todo, scorer, kind, jobs, len(scans)):
            reason = made if isinstance(made, str) else _scored(scorer, made, paths, key)
            if reason:
                paths["score"].unlink(missing_ok=True)  # of what was there before
                excluded.append(_left_out(scan, reason))
        rows = out.write_tables(output, bids, scorer.checksum, excluded)
    if len(excluded) == len(scans):
        told = f"none of {len(scans)} scans could be used, see {output / out.EXCLUDED}"
        raise ScanError(f"{told}; the first: {excluded[0]['reason']}")
    return rows


def made_of(scan: Scan, kind: str, scorer: Scorer) -> str | None:
    """Hash all that decides a result; None where a file cannot be read, which is then said of the scan."""
    try:
        files, told = [*scan.files, *scan.others, *scan.extras], repr(sorted(scan.groups.items()))
        return digest(files, scan.recipe, told, kind, scorer.checksum)
    except OSError:
        return None


def _cut(todo: list, scorer: Scorer, kind: str, jobs: int, total: int) -> Iterator[tuple]:
    """Cut the scans that are to do, each with what came of it, beside a bar that counts those done before."""
    data = scorer.model.config.data
    work = [joblib.delayed(prepared)(scan, data, kind) for scan, _, _ in todo]
    made = in_parallel(work, jobs) if work else ()
    both = zip(todo, made, strict=True)
    return ((*one, found) for one, found in progress(both, "scoring", total, total - len(todo)))


def _scored(scorer: Scorer, made: Prepared, paths: out.Paths, made_of: str) -> str:
    """Score and write one scan; say why it cannot be, else nothing."""
    try:
        out.write(scorer.judge(made), paths, made_of, made.scan.files)
    except InputError as error:
        return one_line(error)
    return ""


def _left_out(scan: Scan, reason: str) -> dict[str, str]:
    logging.warning("%s is left out: %s", scan.name, reason)
    return {"patient": scan.patient, "session": scan.session, "source": scan.location, "reason": reason}
