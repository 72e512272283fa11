"""Repeat a late step of finished runs, and write their reports again.

examples:
  symnorm evaluate --run=runs/demo
  symnorm evaluate --run=runs/demo --from=gaussian
  symnorm evaluate --run=runs/lgg,runs/lgg_dae --from=cost

--from=metrics judges a run anew from its scores, thresholds and embeddings. --from=gaussian first fits the healthy
Gaussian anew to the embeddings, whatever wrote them, and scores. --from=cost measures what a sample costs: a run does
so when it is made, beside other work; seconds that are compared are to be measured in turn on an idle machine.
"""

from pathlib import Path

from symnorm_jax.cli import comma_list

STEPS = ("gaussian", "metrics", "cost")
OPTIONS = {
    "--run": {"required": True, "type": comma_list, "metavar": "RUN[,RUN]", "help": "run directories"},
    "--from": {"dest": "step", "choices": STEPS, "default": "metrics", "help": "the step to repeat from"},
}


def run(args) -> None:
    from symnorm_jax.evaluation.measures import sample_of
    from symnorm_jax.files import read_json
    from symnorm_jax.report.page import print_results, write_report
    from symnorm_jax.report.table import Table
    from symnorm_jax.run import Run
    from symnorm_jax.rundir import claimed, cpu_devices, read_config
    from symnorm_jax.training.sharding import share_cores

    costs, first = [], Path(args.run[0])
    share_cores(read_config(first), cpu_devices(first))
    for run in [Run(read_config(Path(workdir)), Path(workdir)) for workdir in args.run]:
        with claimed(run.workdir):
            if args.step == "cost":
                run.measure_cost(anew=True)
                write_report(run.workdir, run.config)
                cost = read_json(run.workdir / "cost.json")
                numbers = str(cost["passes"]), f"{cost['parameters']:,}", f"{1000 * cost['seconds_per_sample']:.2f}"
                costs.append([run.workdir.name, sample_of(run.config).noun, *numbers, cost["device"]])
                continue
            if args.step == "gaussian":
                run.fit(anew=True)
                run.score()
            run.evaluate(anew=True)
        print_results(run.workdir)
    if costs:
        Table("Cost", ["run", "of a", "passes", "parameters", "ms", "device"], costs).print()
