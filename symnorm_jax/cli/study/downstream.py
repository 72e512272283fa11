"""Predict age, sex or anything else that is known of people from pre-trained encoders, and from their rivals.

examples:
  symnorm train --config=simclr:cpu --config.data.root=/data/ixi --workdir=runs/simclr
  symnorm train --config=simclr:cpu,mae --config.data.root=/data/ixi --workdir=runs/mae
  symnorm train --config=simclr:cpu,untrained --config.data.root=/data/ixi --workdir=runs/untrained
  symnorm study downstream --runs=runs/simclr,runs/mae,runs/untrained --targets=age,sex=F --output=runs/downstream

Every run is probed, runs of simclr, mae and saca are fine-tuned, and the same encoder and a small CNN are trained from
scratch. The people who are trained on, chosen by and tested come from the runs, whose splits must be the same. A
target is a column of their manifests: a number, or with `=F` the class F; of runs with data.train_on=everyone also
`label=abnormal`. The same command goes on where it stopped.
"""

from pathlib import Path

from symnorm_jax.cli import at_least_one, comma_list

SHARES = ["0.05", "0.1", "0.2", "0.5", "1"]
OPTIONS = {
    "--runs": {"required": True, "type": comma_list, "help": "finished runs of volumes, the reference first"},
    "--targets": {"required": True, "type": comma_list, "help": "numbers, as age, and classes, as sex=F"},
    "--fractions": {"type": comma_list, "default": SHARES, "help": "shares of the labels for probes"},
    "--finetune": {"type": comma_list, "default": SHARES, "help": "shares for training; empty for none"},
    "--seeds": {"type": at_least_one, "default": 3, "help": "trainings of each kind; 3 unless given"},
    "--draws": {"type": at_least_one, "default": 20, "help": "probes of each kind; 20 unless given"},
    "--output": {"type": Path, "default": Path("runs/downstream"), "help": "the folder to write to"},
}


def run(args) -> None:
    from symnorm_jax.downstream import protocol

    protocol.check(args)
    runs, targets = [Path(run) for run in args.runs], [protocol.target_settings(text) for text in args.targets]
    protocol.check_runs(runs, [target["target.column"] for target in targets])
    for target in targets:  # before the first of them takes its hours
        protocol.counts(runs[0], target, [1.0])
    for target in targets:
        _try_everything(runs, target, args)


def _try_everything(runs: list[Path], target: dict, args) -> None:
    from symnorm_jax.compare import downstream as tables
    from symnorm_jax.downstream import protocol
    from symnorm_jax.rundir import read_config, unaudited, weakly_supervised

    name, kind, first = target["target.column"], target["target.kind"], runs[0]
    probed, trained = (protocol.counts(first, target, map(float, texts)) for texts in (args.fractions, args.finetune))
    outcomes = [one for run in runs for one in protocol.probes(run, target, probed, args.draws)]
    outcomes += protocol.rulers(first, target, probed, args.draws)
    outcomes += protocol.trainings(runs, target, trained, args.seeds, args.output / name)
    lines = tables.summary(outcomes, protocol.with_settings(read_config(first), target))
    notes = unaudited(runs) + weakly_supervised({run.name: read_config(run) for run in runs})
    paths = tables.write(lines, notes, name, kind, args.output)
    tables.table(lines, kind).print()
    print(*notes, f"{name}: {', '.join(map(str, paths))}", sep="\n")
