"""Prepare and audit the samples of a config without training; `symnorm train` goes on from there.

examples:
  symnorm check --config=lgg --config.data.root=/data/kaggle_3m --scans-only
  symnorm check --config=lgg --config.data.root=/data/kaggle_3m

Leaves `cohort.md` and `figures/contact_SPLIT.png` in the run directory. With --scans-only every scan is loaded and none
is cut: `check.csv` has a row a scan, and the status is 1 where one cannot be used or is that of two people.
"""

from pathlib import Path
from time import perf_counter

from symnorm_jax.cli import train

OPTIONS = train.OPTIONS | {"--scans-only": {"action": "store_true", "help": "load every scan, and cut none"}}


def run(args) -> int:
    from symnorm_jax.data import check
    from symnorm_jax.files import write_text
    from symnorm_jax.report import cohort
    from symnorm_jax.run import Run
    from symnorm_jax.rundir import claimed

    config, workdir, overrides = train.begin(args)
    run = Run(config, workdir)
    if not args.scans_only:
        with claimed(workdir):
            _prepare(run, overrides)
        return 0
    found = check.check(config.data)
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / "check.csv", found.to_csv(index=False))
    cohort.show(check.tables(found), [f"every scan: {workdir / 'check.csv'}"])
    return int((found.problem != "").any() or len(check.repeated(found)) > 0)


def _prepare(run, overrides: dict) -> None:
    """Prepare a run, and write and print what it is made of."""
    from symnorm_jax.evaluation.measures import sample_of
    from symnorm_jax.files import write_text
    from symnorm_jax.report import cohort, gallery
    from symnorm_jax.rundir import open_run

    config, workdir, data, about = run.config, run.workdir, run.config.data, sample_of(run.config)
    open_run(workdir, config, overrides)
    stored = {path.stem for path in Path(data.store).glob("*.json")}
    start = perf_counter()
    run.prepare()
    seconds, rows = perf_counter() - start, run.manifest
    cut = rows[(rows.split != "excluded") & ~rows.store.isin(stored)]
    size = f"{' x '.join(map(str, data.size))} {about.element} of {data.spacing:g} mm"
    pace = f"{seconds:.1f} s: {len(cut) / seconds:.1f} {about.noun}s a second"
    done = f"Cut {len(cut):,} {about.noun}s of {cut.store.nunique():,} scans in {pace}."
    notes = [f"Source `{data.source}`, seed {config.seed}, {size}, brain mask `{data.brain}`."]
    notes.append(done if len(cut) else "Every scan was in the store already.")
    made = cohort.tables(rows, data.train_on, about.noun)
    write_text(workdir / "cohort.md", cohort.markdown(f"Cohort of {workdir.name}", made, notes))
    sheets = gallery.write_sheets(workdir, rows, data.store)
    cohort.show(made, [*notes, f"the same: {workdir / 'cohort.md'}; to look at: {', '.join(map(str, sheets))}"])
