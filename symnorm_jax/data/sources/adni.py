"""ADNI, people with Alzheimer's disease, with mild cognitive impairment (MCI) and without either, in three layouts.

Nobody has drawn lesions in any: every slice of a scan is what its person is.
"""

from functools import partial

from symnorm_jax.data.sources import adni_caps, adni_loni, adni_slices, diagnosis
from symnorm_jax.data.sources.diagnosis import Visit, kind_of, standing
from symnorm_jax.data.sources.listing import existing, kept, nifti_scan, scan_of, some
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import ConfigError, check_options

FORMAT = 1  # raise it when the same files would give other voxels
LAYOUTS = {"caps": adni_caps, "loni": adni_loni, "slices": adni_slices}
LAYOUT = f"{adni_loni.LAYOUT}, or {adni_caps.LAYOUT}, or {adni_slices.LAYOUT}"
CHOICES = {"layout": ("auto", *LAYOUTS), "mci": diagnosis.CHOICES, "prefer": adni_loni.PREFER}


def records(
    root: str,
    *,
    layout: str = "auto",
    mci: str = "drop",
    prefer: str = "corrected",
    description: str = "",
    use_folders: bool = False,
) -> list[Scan]:
    """List one Scan a person and day (`loni`), session (`caps`) or person (`slices`); `auto` takes the layout it finds.

    `mci` keeps people with MCI unlabelled, drops them or calls them abnormal. `loni`: of a day's images that with most
    or, with `prefer="original"`, fewest corrections, if its description holds `description`. `slices`: `use_folders`
    takes the release's own train and test. Raises ScanError where files or tables contradict one another.
    """
    check_options(CHOICES, layout=layout, mci=mci, prefer=prefer)
    folder = existing(root, LAYOUT)
    if layout == "auto":
        layout = next((name for name, module in LAYOUTS.items() if module.holds(folder)), "")
    some(root, layout, "scans of ADNI", LAYOUT)
    if use_folders and layout != "slices":
        raise ConfigError(f"data.options.use_folders=True; the layout {layout!r} has no folders of train and test.")
    options = {"caps": {}, "loni": {"prefer": prefer, "description": description}, "slices": {"divided": use_folders}}
    visits, kinds = LAYOUTS[layout].visits(folder, **options[layout])
    pairs = [(standing(kind_of(visit.word), kinds.get(visit.patient, set()), mci), visit) for visit in visits]
    what = f"scans of people listed neither as CN throughout nor as AD (mci={mci!r})"
    return [_scan(layout, *pair) for pair in kept(root, pairs, lambda pair: pair[0], what)]


def _scan(layout: str, stands: str, visit: Visit) -> Scan:
    about = {"patient": visit.patient, "session": visit.session, "groups": visit.groups, "split": visit.split}
    about |= {"standing": stands, "recipe": f"adni {layout} format {FORMAT}"}
    if layout != "slices":
        return nifti_scan(*visit.files, **about)
    return scan_of(partial(adni_slices.load, visit.files), visit.files, **about)
