"""Judge finished runs on their people in other contrasts: how much is lost where training has never been.

examples:
  symnorm study shifts --run=runs/ixi
  symnorm study shifts --run=runs/ixi,runs/dal

Six fixed curves of intensity change every scan; the truth, and all that a run has learned and fitted, stays.
Writes `shifts.json` into each run. Differences are paired by person. Maps that take no network are those of the first.
"""

from pathlib import Path

from symnorm_jax.cli import comma_list

OPTIONS = {
    "--run": {"required": True, "type": comma_list, "metavar": "RUN[,RUN]", "help": "run directories"},
    "--split": {
        "choices": ("test", "val"),
        "default": "test",
        "help": "val while choices are still made; test if not given",
    },
}


def run(args) -> None:
    from symnorm_jax.evaluation.measures import label
    from symnorm_jax.evaluation.pixels import TRIVIAL_MAPS
    from symnorm_jax.files import write_json
    from symnorm_jax.inference.shifts import SHOWN, UNCHANGED, measure_of, shifts
    from symnorm_jax.report.table import Table
    from symnorm_jax.rundir import SHIFTS, claimed, cpu_devices, read_config, refuse_judge
    from symnorm_jax.training.sharding import share_cores

    runs, lines = [Path(name) for name in args.run], []
    share_cores(read_config(runs[0]), cpu_devices(runs[0]))
    less = f"_minus_{UNCHANGED}"
    for workdir in runs:
        config = read_config(workdir)
        refuse_judge(workdir, "--run")
        with claimed(workdir, "--run"):
            found = shifts(workdir, config, args.split)
            write_json(workdir / SHIFTS, {"split": args.split, **found})
        for shown in ("map", *(TRIVIAL_MAPS if workdir == runs[0] else ())):
            names = [measure_of(measure, shown) for measure in SHOWN]
            if names[0] in found[UNCHANGED]:
                who = workdir.name if shown == "map" else label(shown)
                lines += [
                    [who, change, *(of.get(name + x) for name in names for x in ("", less))]
                    for change, of in found.items()
                ]
    titles = [f"{label(measure)}{x}" for measure in SHOWN for x in ("", f" minus {UNCHANGED}")]
    Table(f"Contrast shift, {args.split} split", ["run", "change", *titles], lines).dense().print()
    print(*(workdir / SHIFTS for workdir in runs), sep="\n")
