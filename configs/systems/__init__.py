"""The settings of the systems. A run's config holds its own system's alone.

A file has `SETTINGS` of one system or of a family, `{system: nested settings}`; `TINY`, what a tiny run changes in
them; and `PRESETS`, `{name: values}`, asked for as in `--config=configs/lgg.py:full,dae`.
"""

from configs.systems import dal, rivals, saca, symnorm, volumes

FAMILIES = (symnorm, rivals, dal), (volumes, saca)  # of slices and of volumes: a notebook can be asked for its own kind
SETTINGS = {name: settings for family in FAMILIES for one in family for name, settings in one.SETTINGS.items()}
