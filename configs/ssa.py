"""Brain tumours of BraTS-Africa (SSA): the first transfer, from the networks of configs/mets.py.

python launch/train.py --config=configs/ssa.py --config.data.root=/data/BraTS-Africa
python launch/train.py --config=configs/ssa.py --config.data.root=/data/BraTS-Africa --config.finetune.kind=vae \
    --config.finetune.patients=10 --workdir=runs/ssa_vae_10

`finetune.kind` is none, gaussian, vae or all; the report has a row for the source as it is, `zero shot`.
"""

from configs import sweeps
from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.init_from = "runs/mets_tiny" if size.startswith("tiny") else "runs/mets"
    config.data.source = "brats"
    config.data.options.channel = "t1c"  # or t1n, t2w, t2f, or several, as "t1c,t2f"
    config.data.options.group = "both"  # of BraTS-Africa: or glioma, other
    config.data.options.labels = "whole"  # what counts as lesion: the whole tumour, core, or enhancing
    config.data.brain = "nonzero"
    config.data.train_on = "lesion_free_slices"
    return finish(config, size)


def sweep():
    return sweeps.transfers()
