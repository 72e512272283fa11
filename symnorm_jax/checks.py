"""What a config may say, looked at before anything is done."""

from ml_collections import ConfigDict

from symnorm_jax import ranges
from symnorm_jax.data import brain, headers, manifest, masks, samples
from symnorm_jax.errors import ConfigError
from symnorm_jax.evaluation.cases import AGGREGATES
from symnorm_jax.evaluation.postprocess import chain
from symnorm_jax.hosts import check_jax
from symnorm_jax.scoring import calibration, scores, shrinkage, thresholds
from symnorm_jax.settings import ALL_TEST, check_choice, check_choices, only_judges, target_of, value_of
from symnorm_jax.statistics.intervals import KINDS
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System
from symnorm_jax.systems.encoder import FINETUNE
from symnorm_jax.training import meter, sharding, transfer, writers

CHOICES = {
    "score.threshold": thresholds.RULES,
    "score.patient": AGGREGATES,
    "score.calibration": calibration.METHODS,
    "data.train_on": manifest.TRAIN_ON,
    "data.midline": samples.MIDLINE,
    "data.normalise": samples.NORMALISE,
    "data.poor_midline": samples.POOR_MIDLINE,
    "data.poor_header": headers.POOR,
    "evaluation.interval": KINDS,
    "network.dtype": ("float32", "bfloat16"),
}


def checked(config: ConfigDict) -> System:
    """Make the system of a config. Raises ConfigError, before anything is done, for what would only fail later."""
    ranges.check(config)
    check_choice("system", config.system, BUILD)
    try:
        system = BUILD[config.system](config)
        stages = transfer.schedule(config, system)
    except (AttributeError, KeyError) as error:  # ml_collections' words for a key that is not there
        found = f"system={config.system!r} with the settings of another: {' '.join(str(error).split())}"
        allowed = "a system comes with its own by a preset, as --config=configs/demo.py:full,dae"
        raise ConfigError(f"{found}; {allowed}.") from None
    check_choices(config, CHOICES | {"score.headline": scores.names_of(system)})
    if config.data.train_on == "everyone" and system.residual:
        found = f"data.train_on='everyone' with system={config.system!r}, whose maps are measured by training people"
        raise ConfigError(f"{found}; 'healthy_people' or 'lesion_free_slices' is allowed.")
    check_choices(config, {"score.thresholds": ("source", "target") if config.init_from else ("target",)})
    if only_judges(config):
        _check_judges(config)
    brain.check_choice(config.data.brain, config.data.extractor)
    for key in ("lesion_values", "brain_values"):
        masks.labels_of(f"data.{key}", config.data[key])
    shrinkage.check_shrinkage(config.score.shrinkage)
    chain(config)
    if target_of(config) and FINETUNE not in stages:  # nothing would be trained to predict it
        found = f"target.column={config.target.column!r} with finetune.kind={config.finetune.kind!r}"
        raise ConfigError(f"{found}; {FINETUNE!r} or a stage before it is needed.")
    if config.train.profile:
        check_choice("train.profile", meter.parse_profile(config.train.profile)[0], stages)
    return system


def _check_judges(config: ConfigDict) -> None:
    """Raise ConfigError where a run that has nobody to fit anything on would have to."""
    patients = set(AGGREGATES) - {"calibrated"}  # made of p-values among the own validation slices
    for key, allowed in (("finetune.kind", {"none"}), ("score.thresholds", {"source"}), ("score.patient", patients)):
        if (value := value_of(config, key)) not in allowed:
            found = f"{key}={value!r} with data.split={ALL_TEST}, by which nothing is fitted"
            raise ConfigError(f"{found}; one of {sorted(allowed)} is allowed.")


def check_devices(config: ConfigDict, system: System) -> None:
    """Raise ConfigError unless a config can be trained here: on these devices, with the libraries that there are."""
    check_jax()
    sharding.check_sharding(config.sharding)
    writers.check_writers(config.train.writers)
    section, parts = transfer.section_of(config), config.train.accumulate
    for name, settings in transfer.schedule(config, system).items():
        sharding.check_batch_size(f"{section}.{name}.batch_size", settings.batch_size, parts)
    sharding.check_batch_size("score.batch_size", config.score.batch_size)
