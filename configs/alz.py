"""Alzheimer's disease (ADNI, in any of the layouts that symnorm_jax/data/sources/adni.py reads): the second transfer.

python launch/train.py --config=configs/alz.py --config.data.root=/data/AD_NC
python launch/train.py --config=configs/alz.py --config.data.root=/data/ADNI --config.data.brain=extract

The second is for whole heads, as LONI and Clinica have them. From scratch: `--config.init_from=''`.

Healthy controls are trained on; nobody draws an atrophy, so every slice is what its person is, and a patient's score is
the mean over slices. ADNI's T1 has no contrast agent: a source that was trained on T1 without it transfers better.

From scratch on 100 people of OASIS-1 in the AD_NC layout, out of four folds, 1,000 steps, two CPU cores, seed 0:
patients' Mahalanobis AUROC 0.661 (0.530-0.761), the share of fluid alone 0.793 (0.684-0.879); docs/results.md.
"""

from configs import sweeps
from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.init_from = "runs/mets_tiny" if size.startswith("tiny") else "runs/mets"
    config.data.source = "adni"
    config.data.options.layout = "auto"  # or loni, caps, slices
    config.data.options.mci = "drop"  # mild cognitive impairment: or keep, scored and not judged, or abnormal
    config.data.options.prefer = "corrected"  # loni: of several images of a day; or original
    config.data.options.description = ""  # loni: only images whose description holds this
    config.data.options.use_folders = False  # slices: take the release's own division into train and test
    config.data.brain = "nonzero"
    config.score.patient = "mean"
    # From scratch: every brain lies alike in these releases, and is learned sooner.
    return finish(config, size, {"train.unet.steps": 5000})


def sweep():
    return sweeps.transfers()
