"""Negative controls of a finished run: labels that mean nothing, and what a leaking split would add to its numbers.

example:
  symnorm study controls --run=runs/lgg

Writes `controls.json` into the run, and its report again.
"""

from pathlib import Path

OPTIONS = {"--run": {"required": True, "type": Path, "help": "the run directory"}}


def run(args) -> None:
    from symnorm_jax.evaluation.controls import controls
    from symnorm_jax.files import write_json
    from symnorm_jax.report.page import write_report
    from symnorm_jax.run import Run
    from symnorm_jax.rundir import claimed, read_config, refuse_judge

    config = read_config(args.run)
    refuse_judge(args.run, "--run")
    with claimed(args.run):
        Run(config, args.run).evaluate()
        found = controls(args.run, config)
        write_json(args.run / "controls.json", found)
        write_report(args.run, config)
    print(*found["notes"], f"controls: {args.run / 'controls.json'}; report: {args.run / 'report.html'}", sep="\n")
