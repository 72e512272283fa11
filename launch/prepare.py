"""Prepare and audit the slices of a config without training; launch/train.py goes on from there. Or only check scans.

python launch/prepare.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m
python launch/prepare.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m --check_only

Leaves `cohort.md` and `figures/contact_<split>.png` in the run directory. With --check_only every scan is loaded and
none is cut: `check.csv` has a row a scan, and the exit status is 1 where one cannot be used or is that of two people.
"""

import sys
from pathlib import Path
from time import perf_counter

import pandas as pd
from absl import app, flags
from ml_collections import ConfigDict

from symnorm_jax.data import check
from symnorm_jax.errors import parsed, reported
from symnorm_jax.evaluation.wording import sample_of
from symnorm_jax.files import write_text
from symnorm_jax.report import cohort, sheet
from symnorm_jax.run import Run
from symnorm_jax.rundir import claimed, open_run
from symnorm_jax.training import commandline

_CHECK_ONLY = flags.DEFINE_bool("check_only", False, "Load every scan, say what is wrong, and cut none.")
flags.adopt_module_key_flags(commandline)


def check_scans(config: ConfigDict, workdir: Path) -> int:
    """Write `check.csv` and print what was found; the exit status."""
    found = check.check(config.data)
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / "check.csv", found.to_csv(index=False))
    cohort.show(check.tables(found), [f"every scan: {workdir / 'check.csv'}"])
    return int((found.problem != "").any() or len(check.repeated(found)) > 0)


def prepare(config: ConfigDict, workdir: Path, overrides: dict) -> None:
    """Prepare a run, and write and print what it is made of."""
    run = Run(config, workdir)
    open_run(workdir, config, overrides)
    stored = {path.stem for path in Path(config.data.store).glob("*.json")}
    start = perf_counter()
    run.prepare()
    seconds = perf_counter() - start
    rows, sample = run.manifest, sample_of(config)
    made = cohort.tables(rows, config.data.train_on, sample.noun)
    size = f"{' x '.join(map(str, config.data.size))} {sample.element}"
    notes = [
        f"Source `{config.data.source}`, seed {config.seed}, {size} of {config.data.spacing:g} mm, brain mask "
        f"`{config.data.brain}`.",
        throughput(rows[(rows.split != "excluded") & ~rows.store.isin(stored)], seconds, sample.noun),
    ]
    write_text(workdir / "cohort.md", cohort.markdown(f"Cohort of {workdir.name}", made, notes))
    sheets = sheet.write_sheets(workdir, rows, config.data.store)
    cohort.show(made, [*notes, f"the same: {workdir / 'cohort.md'}; to look at: {', '.join(map(str, sheets))}"])


def throughput(cut: pd.DataFrame, seconds: float, noun: str) -> str:
    """How fast the slices or volumes `cut` just now were; a sentence for none."""
    if not len(cut):
        return "Every scan was in the store already."
    amount = f"{len(cut):,} {noun}s of {cut.store.nunique():,} scans"
    return f"Cut {amount} in {seconds:.1f} s: {len(cut) / seconds:.1f} {noun}s a second."


def main(_) -> None:
    with reported():
        config, workdir, overrides = commandline.begin()
        if _CHECK_ONLY.value:
            sys.exit(check_scans(config, workdir))
        with claimed(workdir):
            prepare(config, workdir, overrides)


if __name__ == "__main__":
    app.run(main, flags_parser=parsed)
