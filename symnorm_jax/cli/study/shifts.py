"""Judge finished runs on their people in other contrasts: how much is lost where training has never been.

examples:
  symnorm study shifts --run=runs/ixi
  symnorm study shifts --run=runs/folds/symnorm,runs/folds/dal --postprocess=erode,median,components

Six fixed curves of intensity change every scan; the truth, and all that a run has learned and fitted, stays. A folder
of runs, of folds or seeds, is one method, as for `symnorm compare`: numbers are means over them. Writes `shifts.json`
beside the runs or into the one. Differences are paired by person. Maps that take no network are those of the first.
"""

from contextlib import ExitStack
from pathlib import Path

from symnorm_jax.cli import comma_list

OPTIONS = {
    "--run": {"required": True, "type": comma_list, "metavar": "RUN[,RUN]", "help": "runs, or folders of runs"},
    "--split": {
        "choices": ("test", "val"),
        "default": "test",
        "help": "val while choices are still made; test if not given",
    },
    "--postprocess": {"type": comma_list, "help": "erode, median, components: for all maps alike"},
}


def run(args) -> None:
    from symnorm_jax.compare.entries import refuse_namesakes, runs_of
    from symnorm_jax.files import write_json
    from symnorm_jax.inference.shifts import lines_of, shifts, table_of
    from symnorm_jax.rundir import SHIFTS, claimed, cpu_devices, read_config, refuse_judge
    from symnorm_jax.training.sharding import share_cores

    refuse_namesakes(named := [Path(name) for name in args.run], "--run")
    methods = {method: runs_of(method) for method in named}
    for one in (every := [run for runs in methods.values() for run in runs]):
        refuse_judge(one, "--run")
    share_cores(read_config(every[0]), cpu_devices(every[0]))
    steps, lines = None if args.postprocess is None else tuple(args.postprocess), []
    for method, runs in methods.items():
        with ExitStack() as held:
            for one in runs:
                held.enter_context(claimed(one, "--run"))
            found = shifts(runs, args.split, steps)
            write_json(method / SHIFTS, {"split": args.split, "postprocess": args.postprocess, **found})
        lines += lines_of(method.name, found, plain=not lines)
    table_of(lines, args.split).print()
    print(*(method / SHIFTS for method in methods), sep="\n")
