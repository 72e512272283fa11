"""Compare finished runs on the same test cases: paired differences with intervals, tests and verdicts.

examples:
  symnorm compare --runs=runs/lgg,runs/lgg_dae,runs/lgg_padim --output=runs/lgg_comparison
  symnorm compare --runs=runs/folds/symnorm,runs/folds/dae --postprocess=erode,median,components --output=runs/folds

The first run is the reference. A folder of runs, of folds (`data.folds`) or seeds, is one method: every number is the
mean over them, and its interval is over all people who are tested in them. With --level=patient patients are judged,
so that runs of slices can be compared with runs of whole volumes, if only their test patients are the same. The margin
of non-inferiority is `evaluation.margin` of the first run's config, which was written down when the run was begun.
"""

from pathlib import Path

from symnorm_jax.cli import comma_list

OPTIONS = {
    "--runs": {"required": True, "type": comma_list, "help": "run directories, the reference first"},
    "--level": {"choices": ("sample", "patient"), "default": "sample", "help": "what is judged"},
    "--postprocess": {"type": comma_list, "help": "erode, median, components: for all maps alike"},
    "--output": {"type": Path, "default": Path("runs/comparison"), "help": "the folder to write to"},
}


def run(args) -> None:
    from symnorm_jax.compare import tables
    from symnorm_jax.compare.pairs import compare

    steps = None if args.postprocess is None else tuple(args.postprocess)
    compared = compare([Path(run) for run in args.runs], args.level, steps)
    paths = tables.write(compared, args.output)
    for table in tables.brief(compared):
        table.print()
    print(f"comparison: {', '.join(map(str, paths))}")
