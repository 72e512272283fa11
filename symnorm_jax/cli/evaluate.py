"""Repeat a late step of finished runs, or judge other labelled people by one.

examples:
  symnorm evaluate --run=runs/demo
  symnorm evaluate --run=runs/demo --from=gaussian
  symnorm evaluate --run=runs/lgg,runs/lgg_dae --from=cost
  symnorm evaluate --run=runs/lgg -i labelled.csv -o runs/lgg_on_ms

--from=metrics judges a run anew from its scores, thresholds and embeddings. --from=gaussian first fits the healthy
Gaussian anew to the embeddings, whatever wrote them, and scores. --from=cost measures what a sample costs: a run does
so when it is made, beside other work; seconds that are compared are to be measured in turn on an idle machine.

With --input every labelled person of a manifest, columns as in symnorm_jax/data/sources/table.py, is a test person of
a new run directory, which reports and `symnorm compare` read as any other. Nothing is fitted: networks, healthy maps,
Gaussian, thresholds and probabilities are those of the run. Healthy people may be among them or not. Whom the run has
learned from is refused. OUT/doubts.csv says of each scan why `symnorm score` would not call it; it is judged anyway.
"""

from pathlib import Path

from symnorm_jax.cli import comma_list

STEPS = ("gaussian", "metrics", "cost")
OPTIONS = {
    "--run": {"required": True, "type": comma_list, "metavar": "RUN[,RUN]", "help": "run directories"},
    "--from": {"dest": "step", "choices": STEPS, "help": "the step to repeat from; metrics unless given"},
    "-i --input": {"type": Path, "help": "a manifest .csv of other labelled people"},
    "-o --output": {"type": Path, "help": "with --input: the run directory that is made"},
    "--brain": {"help": "with --input: where brain masks come from, as file, nonzero, extract or auto; as the run"},
}


def run(args) -> None:
    if args.input or args.output or args.brain:
        return _judge(args)
    from symnorm_jax.evaluation.measures import sample_of
    from symnorm_jax.files import read_json
    from symnorm_jax.report.page import print_results, write_report
    from symnorm_jax.report.table import Table
    from symnorm_jax.run import Run
    from symnorm_jax.rundir import COST, claimed, cpu_devices, read_config
    from symnorm_jax.training.sharding import share_cores

    costs, first = [], Path(args.run[0])
    share_cores(read_config(first), cpu_devices(first))
    for run in [Run(read_config(Path(workdir)), Path(workdir)) for workdir in args.run]:
        with claimed(run.workdir):
            if args.step == "cost":
                run.measure_cost(anew=True)
                write_report(run.workdir, run.config)
                cost = read_json(run.workdir / COST)
                numbers = [f"{cost['flops_per_sample'] / 1e9:.2f}", f"{1000 * cost['seconds_per_sample']:.2f}"]
                numbers = [str(cost["passes"]), f"{cost['parameters']:,}", *numbers]
                costs.append([run.workdir.name, sample_of(run.config).noun, *numbers, cost["device"]])
                continue
            if args.step == "gaussian":
                run.fit(anew=True)
                run.score()
            run.evaluate(anew=True)
        print_results(run.workdir)
    if costs:
        Table("Cost", ["run", "of a", "passes", "parameters", "GFLOP", "ms", "device"], costs).print()


def _judge(args) -> None:
    """Judge labelled people by a run; refuse what cannot be right before anything that takes long is imported."""
    for wrong, sentence in (
        (not (args.input and args.output), "--input, the people to judge, and --output belong together."),
        (len(args.run) > 1 or args.step, "--input: is allowed with one run, and without --from."),
        (args.input and not (args.input.suffix == ".csv" and args.input.is_file()), f"{args.input}: is no .csv file."),
    ):
        if wrong:
            args.refuse(sentence)
    from symnorm_jax.cli.compiled import keep_beside
    from symnorm_jax.inference.labelled import Judging, config_of
    from symnorm_jax.report.page import print_results
    from symnorm_jax.rundir import claimed, cpu_devices, open_run
    from symnorm_jax.training.sharding import share_cores

    config = config_of(Path(args.run[0]), args.input, args.brain)
    share_cores(config, cpu_devices(args.output))
    keep_beside(args.output)
    given = {"run": args.run[0], "input": str(args.input), "output": str(args.output)}
    run = Judging(config, args.output)
    with claimed(args.output, "--output"):
        open_run(args.output, config, given | ({"brain": args.brain} if args.brain else {}))
        run.everything()
    print_results(args.output)
