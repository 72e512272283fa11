"""Settings travel with their system: a config has those of its own system, all of them, and of no other."""

import importlib.util
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs.base import base, finish
from configs.systems import FAMILIES, SETTINGS
from symnorm_jax.checks import checked
from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import check_choices, check_rules, flat, leaves, target_of, value_of
from symnorm_jax.systems import BUILD

NOTEBOOKS = sorted(
    path for path in (Path(__file__).parents[1] / "configs").glob("*.py") if "def get_config" in path.read_text()
)
PRESETS = [sorted({preset for part in family for preset in part.PRESETS}) for family in FAMILIES]


def notebook(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config


def named(system, size="tiny"):
    """The config of a system of slices or volumes, under the preset of its name."""
    config = base()
    config.system = "symnorm" if any(system in part.SETTINGS for part in FAMILIES[0]) else "simclr"
    if config.system == "simclr":
        config.data.size = (16, 16, 16)
    return finish(config, size if system == config.system else f"{size},{system}")


def test_every_system_has_settings():
    assert SETTINGS.keys() == BUILD.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_config_has_the_keys_of_its_own_system_alone(path):
    common = flat(base()).keys()
    make = notebook(path)
    for preset in ("", *PRESETS[len(make().data.size) - 2]):
        for size in ("full", "tiny"):
            config = make(f"{size},{preset}")
            found = {key for key in flat(config) if not key.startswith("data.options.")}
            assert found == common | leaves(SETTINGS[config.system]).keys()


def test_what_is_set_in_one_section_stays_in_it():
    """Sections that are made of the same settings are not one and the same."""
    config = named("untrained")
    before = flat(config)
    config.train.statistics.steps += 1
    config.train.finetune.optimizer.warmup_steps += 1
    changed = {key for key, value in flat(config).items() if value != before[key]}
    assert changed == {"train.statistics.steps", "train.finetune.optimizer.warmup_steps"}
    assert named("untrained").train.statistics.steps == 20


def test_settings_of_a_notebook_are_for_the_systems_that_have_them():
    settings = {"unet.widths": (4, 8), "train.vae.steps": 7, "mask.covers": 3}
    symnorm, dae, ae = (finish(base(), size, settings) for size in ("full", "full,dae", "full,ae"))
    assert (symnorm.unet.widths, symnorm.train.vae.steps, symnorm.mask.covers) == ((4, 8), 7, 3)
    assert dae.unet.widths == (4, 8) and "vae" not in dae.train and "covers" not in dae.mask
    assert not leaves(settings).keys() & flat(ae).keys()
    with pytest.raises(ValueError, match="config key 'unet.width': no system has it"):
        finish(base(), "full", {"unet.width": (4,)})


@pytest.mark.parametrize("system", ["dae", "untrained", "symnorm"])
def test_a_system_without_its_settings_is_refused_with_the_way_to_get_them(system):
    config = named("simclr" if system == "symnorm" else "ae")
    config.system = system
    sentence = f"system='{system}' with the settings of another: .*; .*configs/demo.py:full,dae"
    with pytest.raises(ConfigError, match=sentence):
        checked(config)


def test_values_are_checked_by_name():
    config = ConfigDict({"a": {"kind": "x", "steps": 0}})
    check_choices(config, {"a.kind": ("x", "y")})
    with pytest.raises(ConfigError, match=r"a.kind='x'; one of \['y', 'z'\] is allowed."):
        check_choices(config, {"a.kind": ("z", "y")})
    for value in (0, float("nan")):
        config.a = {"steps": value}
        with pytest.raises(ConfigError, match=f"section.a.steps={value}; a positive number is allowed."):
            check_rules(config, {"a.steps": (lambda steps: steps > 0, "a positive number is")}, "section.")


def test_there_is_a_target_where_a_column_is_named():
    config = named("supervised")
    assert target_of(config) is None and target_of(base()) is None
    config.target.column = "age"
    assert target_of(config).column == "age" and value_of(config, "target.kind") == "number"
