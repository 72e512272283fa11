"""ADNI, people with Alzheimer's disease, with mild cognitive impairment (MCI) and without either, in three layouts.

`loni`: the NIfTI files as LONI serves them, with the table of the collection (`adni_loni.py`); `caps`: what Clinica's
t1-linear made of them (`adni_caps.py`); `slices`: 2-D pictures, as others have passed them on (`adni_slices.py`).
Nobody has drawn lesions in any: every slice of a scan is what its person is.
"""

from pathlib import Path

from symnorm_jax.data.sources import adni_caps, adni_loni, adni_slices, diagnosis
from symnorm_jax.data.sources.listing import existing, nothing_found, one_of
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import ConfigError

LAYOUTS = {"caps": adni_caps, "loni": adni_loni, "slices": adni_slices}
LAYOUT = f"{adni_loni.LAYOUT}, or {adni_caps.LAYOUT}, or {adni_slices.LAYOUT}"


def records(
    root: str,
    *,
    layout: str = "auto",
    mci: str = "drop",
    prefer: str = "corrected",
    description: str = "",
    use_folders: bool = False,
) -> list[Scan]:
    """One Scan a person and day (`loni`), session (`caps`) or person (`slices`); `auto` takes the layout it finds.

    `mci` keeps people with MCI unlabelled, drops them or calls them abnormal. `loni` only: of several images of a day
    that with most corrections or, with `prefer="original"`, fewest; only those whose description holds `description`.
    `slices` only: `use_folders` takes the release's own division into train and test.
    """
    one_of("layout", layout, ("auto", *LAYOUTS))
    one_of("mci", mci, diagnosis.CHOICES)
    one_of("prefer", prefer, adni_loni.PREFER)
    folder = existing(root, LAYOUT)
    layout = _found(folder) if layout == "auto" else layout
    if use_folders and layout != "slices":
        raise ConfigError(f"data.options.use_folders=True; the layout {layout!r} has no folders of train and test.")
    if layout == "loni":
        return adni_loni.records(folder, mci, prefer, description)
    return adni_caps.records(folder, mci) if layout == "caps" else adni_slices.records(folder, mci, use_folders)


def _found(root: Path) -> str:
    for name, module in LAYOUTS.items():
        if module.holds(root):
            return name
    raise nothing_found(root, "scans of ADNI", LAYOUT)
