"""The settings that every run has, each with what it does, and how its system's join them.

A config is `get_config(size)`: `full`, or `tiny`, which goes through every stage in under a minute and shows nothing
but that it does. Either may be followed by a preset, as in `--config=configs/demo.py:full,AB1+MSE`.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.systems import FAMILIES, SETTINGS
from symnorm_jax.settings import flat, leaves

TINY = {
    "data.size": (32, 32),
    "data.spacing": 6.0,
    "data.slice_spacing": 10.0,
    "data.duplicate": 1.0,  # off: at 6 mm phantoms look alike
    "train.log_every": 5,
    "train.checkpoint_every": 10,
    "score.batch_size": 32,
    "evaluation.replicates": 100,
}
TINY_STAGE = {"steps": 20, "batch_size": 16, "optimizer.warmup_steps": 5}
SIZES = {"full": {}, "tiny": {}}
Values = dict[str, Any]  # by dotted keys


def base() -> ConfigDict:
    config = ConfigDict()
    config.system = "symnorm"  # one of configs/systems; changed by a preset or by a notebook
    config.seed = 0
    config.init_from = placeholder(str)  # a finished run whose networks this one starts from; else from scratch

    config.data = ConfigDict()
    config.data.source = placeholder(str)  # one of symnorm_jax/data/sources
    config.data.root = placeholder(str)  # the folder of the release
    config.data.options = ConfigDict()  # what the source can be asked for
    config.data.store = "runs/store"  # prepared slices, shared by runs
    config.data.brain = "file"  # where the brain mask comes from: file, nonzero, extract, head, or auto
    config.data.extractor = "deepbet"  # for extract; or synthstrip, hd-bet
    # What the values of mask files mean. two: 0 and another; positive: all whole numbers above 0; soft: probabilities,
    # cut at 0.5; or labels, as "1,3". What means something else is refused.
    config.data.lesion_values = "two"
    config.data.brain_values = "two"
    config.data.poor_header = "exclude"  # or "flag": what is done with a scan whose header contradicts itself
    config.data.midline = "straight"  # or "centred", only shifted; or "template", rigidly registered to MNI152
    config.data.min_similarity = 0.7  # correlation of a brain with its mirror image that a sound mid-line gives
    config.data.poor_midline = "flag"  # in the manifest, or "exclude": what is done with a scan below it
    config.data.size = (64, 64)  # pixels, left-right by back-front; a third side, below-above, makes volumes
    config.data.spacing = 3.0  # mm between pixels
    config.data.slice_spacing = 4.0  # mm between slices; 0, or a stack of pictures, keeps the slices of the scan
    config.data.normalise = "percentiles"  # or "robust": median and median absolute deviation of the brain
    config.data.percentiles = (1.0, 99.0)  # of the brain's intensities, which become 0 and 1; mid-lines use them too
    config.data.min_brain = 4000.0  # mm2 of brain that a slice must show
    config.data.min_lesion = 78.0  # mm2 of lesion from which a slice is abnormal: 10 mm across, measurable by RANO-BM
    config.data.margin = 1  # slices next to a lesion that are neither healthy nor abnormal
    config.data.train_on = "healthy_people"  # or lesion_free_slices, where nobody is healthy; everyone, with labels
    config.data.split = (0.6, 0.15, 0.25)  # of the patients: train, val, test; 0,0,1 fits nothing, see evaluation.md
    config.data.folds = 0  # parts of the patients, in place of split; then part `fold` is test and the next one val
    config.data.fold = 0
    config.data.split_seed = placeholder(int)  # draws the splits; the seed where it is not given
    config.data.held_out = ""  # people who are kept for testing, as a population of their own: "site=IOP"
    config.data.duplicate = 0.8  # likeness above which two scans are taken for copies, slices above 0.9; 1 is off
    config.data.flip = False  # mirror half of the training slices; teaches indifference to side
    config.data.strict = False  # stop at the first unusable scan, instead of leaving it out
    config.data.workers = 0  # processes that prepare scans; 0 for one a core
    config.data.threads = 2  # that read training slices; 0 reads in the training loop

    config.network = ConfigDict()  # how every network computes
    config.network.dtype = "float32"  # or bfloat16, with parameters, norms' statistics and losses still in float32
    config.network.remat = False  # compute the inside of blocks again in the backward pass: less memory, more time

    config.sharding = ConfigDict()  # how a model lies on many devices; examples always spread over all of them
    config.sharding.fsdp = 1  # devices that share a model's large arrays; 1 keeps the whole model on each
    config.sharding.smallest = 65_536  # values from which an array is shared

    config.train = ConfigDict()
    config.train.patients = 0  # to train on, drawn from the training split; 0 for all
    config.train.accumulate = 1  # parts of a batch that are computed one after another, to save memory
    config.train.log_every = 50
    config.train.checkpoint_every = 500
    config.train.writers = ()  # of metrics, beside metrics.jsonl: tensorboard, wandb
    config.train.profile = ""  # steps whose JAX profile is written, as "unet:20-25"; --profile sets it

    config.finetune = ConfigDict()  # of what comes from init_from
    # what is fitted anew: none, gaussian, all, or a stage and those after it, as vae or finetune; then the Gaussian
    config.finetune.kind = "gaussian"
    config.finetune.patients = 0  # to train on, drawn from the training split; 0 for all

    config.score = ConfigDict()
    config.score.batch_size = 64
    config.score.shrinkage = "auto"  # oas, ledoit_wolf, a number from 0 to 1, or auto: leave-patients-out likelihood
    config.score.headline = "mahalanobis"  # the score that the report leads with
    config.score.threshold = "roc"  # roc, max_accuracy, healthy_quantile, mean_plus_k_sd, conformal
    config.score.quantile = 0.95  # of healthy validation cases, for healthy_quantile
    config.score.k = 2.0  # standard deviations above the mean of healthy validation cases, for mean_plus_k_sd
    config.score.alpha = 0.1  # share of healthy patients that may be called abnormal, for conformal
    config.score.groups = ()  # columns of the manifest whose values have conformal thresholds of their own
    config.score.calibration = "platt"  # or isotonic: how the headline score becomes a probability
    config.score.thresholds = "target"  # fitted on the own validation split; "source" keeps what init_from had
    config.score.patient = "max"  # how slices make a patient's score: max, mean, top_k, calibrated
    config.score.top_k = 5  # slices whose mean is top_k

    config.evaluation = ConfigDict()
    config.evaluation.replicates = 2000  # of the bootstrap over patients
    config.evaluation.interval = "bca"  # or percentile, quicker and with few patients too narrow
    config.evaluation.strata = 10  # bands of slice position within which AUROC is also taken
    config.evaluation.margin = 0.05  # AUROC that a method may lose and still be called non-inferior
    config.evaluation.postprocess = ()  # of maps: erode, median, components, in this order
    config.evaluation.erosion = 3.0  # mm off the rim of the brain
    config.evaluation.median = 3  # pixels a side of the median filter; odd
    config.evaluation.smallest = 5  # voxels of the least component that stays
    config.evaluation.smallest_lesion = 3  # voxels of the least lesion that is to be found
    return config


def finish(config: ConfigDict, size: str, settings: Values | None = None, sizes: dict = SIZES) -> ConfigDict:
    """Complete what a notebook has made of `base()`, for a `size` such as "tiny" or "full,dae".

    The settings of the system come first: of that of the preset, or else of the notebook's. Then come `settings` of the
    notebook, what `tiny` changes, the values of the size in `sizes`, and of the preset; a key of another system
    is passed over. Raises ValueError for another size or preset, and for a key that no system has.
    """
    scale, _, preset = size.partition(",")
    [family] = (one for one in FAMILIES if any(config.system in part.SETTINGS for part in one))
    presets = {name: values for part in family for name, values in part.PRESETS.items()}
    if scale not in sizes or (preset and preset not in presets):
        allowed = f"{' or '.join(sizes)} is allowed, perhaps with one of {sorted(presets)}"
        raise ValueError(f"config size {size!r}; {allowed}.")
    values = presets[preset] if preset else {}
    config.system = values.get("system", config.system)
    own = SETTINGS[config.system]
    for section, content in own.items():
        config.update(ConfigDict({section: content}))  # one by one, or sections made of the same dict would be one
    _set(config, settings or {})
    if scale == "tiny":
        stages = [f"{section}.{stage}" for section in ("train", "finetune") for stage in own[section]]
        _set(config, {f"{stage}.{key}": value for stage in stages for key, value in TINY_STAGE.items()})
        for part in (TINY, *(part.TINY for part in family)):
            _set(config, part)
    _set(config, sizes[scale] | values)
    return config


def _set(config: ConfigDict, values: Values) -> None:
    own, known = flat(config), {key for one in SETTINGS.values() for key in leaves(one)}
    for key in values.keys() - own.keys() - known:
        raise ValueError(f"config key {key!r}: no system has it.")
    config.update_from_flattened_dict({key: value for key, value in values.items() if key in own})
