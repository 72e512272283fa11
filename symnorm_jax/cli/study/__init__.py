"""Many runs that belong together: trained here or on SLURM, and told in one table.

example:
  symnorm study baselines --config=lgg --config.data.root=/data/kaggle_3m --output=runs/lgg_baselines
"""

VERBS = {
    "baselines": "symnorm and every rival on one config, compared",
    "sweep": "one config at many points, here or as an array of SLURM",
    "downstream": "what encoders predict of people, beside their rivals",
    "shifts": "finished runs on their people in other contrasts",
    "controls": "negative controls of a finished run",
    "job": "one config as a job of SLURM, on one node or many",
}
