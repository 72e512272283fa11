"""The scans of a source, looked at as a list before any of them is read."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from functools import partial

from absl import logging
from ml_collections import ConfigDict

from symnorm_jax import ranges
from symnorm_jax.data import manifest
from symnorm_jax.data.masks import Reading
from symnorm_jax.data.sources import SOURCES
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.paths import encodes, printed
from symnorm_jax.settings import check_choice


def find_scans(config: ConfigDict) -> list[Scan]:
    """List the scans of the configured source, to be read as configured; warn of what looks wrong in the list.

    Raises ConfigError for an unknown source or a number out of its range, and ScanError where no scan is, where one is
    there twice, and for names that a run has for something else or that no file of it could hold.
    """
    ranges.check(config, "data.")
    check_choice("data.source", config.source, SOURCES)
    if config.root is None and config.source != "phantom":
        raise ConfigError(f"data.root is not given; name the folder of the {config.source!r} release.")
    scans = SOURCES[config.source](config.root, **config.options)
    if not scans:
        raise ScanError(f"data.root={config.root}: no scan of the source {config.source!r} was found there.")
    (name, _), count = Counter((scan.name, scan.split) for scan in scans).most_common(1)[0]
    if count > 1:
        raise ScanError(f"data.root={config.root}: the scan {name} is there {count} times; once is allowed.")
    _check_names(scans, f"data.root={config.root}")
    _warn_of_doubts(scans, config.root)
    return as_configured(scans, config)


def as_configured(scans: list[Scan], config: ConfigDict) -> list[Scan]:
    """Have scans read their files as the `data` section `config` says."""
    reading = Reading(config.lesion_values, config.brain_values, config.poor_header)
    return [scan._replace(load=partial(scan.load, reading=reading)) for scan in scans]


def _warn_of_doubts(scans: list[Scan], root: str) -> None:
    """Warn of what may be other than it seems, how often it is there, and where first."""
    abnormal = [scan for scan in scans if scan.labelled and not scan.healthy]
    bare = [scan for scan in abnormal if not scan.drawn]
    parts = (
        ("scans are unlabelled, and neither trained on nor judged", [one for one in scans if not one.labelled], scans),
        ("abnormal scans have no lesion mask: all their slices are abnormal", bare, abnormal),
    )
    for what, those, of in parts:
        if 0 < len(those) < len(of):
            logging.warning("%s: %d of %d %s, as %s.", root, len(those), len(of), what, those[0].name)
    twins = [file for scan in scans for file in (*scan.files, *scan.others, *scan.extras) if _twin(file)]
    if twins:
        logging.warning("%s: %d files are there as .nii and .nii.gz; one is read, as %s.", root, len(twins), twins[0])
    alike = defaultdict(set)
    for patient in {scan.patient for scan in scans}:
        plain = unicodedata.normalize("NFKC", patient).casefold()
        alike[re.sub(r"[\W_]+|(?<!\d)0+(?=\d)", "", plain)].add(patient)
    for names in filter(lambda names: len(names) > 1, alike.values()):
        logging.warning("%s: %s may be one person, and count as %d.", root, ", ".join(sorted(names)), len(names))


def _twin(file: str) -> bool:
    """Tell whether a NIfTI file lies beside another of its name, compressed where it is not."""
    other = file.removesuffix(".gz") if file.endswith(".nii.gz") else f"{file}.gz"
    return file.endswith((".nii", ".nii.gz")) and os.path.exists(other)


def _check_names(scans: list[Scan], where: str) -> None:
    groups = sorted({name for scan in scans for name in scan.groups})
    if clash := [name for name in groups if manifest.taken(name)]:
        scores = ", ".join((*manifest.LATER, "trivial_..., ...+mahalanobis, z000 and so on"))
        told = f"these names are taken: {', '.join(manifest.COLUMNS)}, {scores}"
        raise ScanError(f"{where}: the column {clash[0]!r}; {told}: rename it.")
    for scan in scans:
        for text in (scan.patient, scan.session, str(scan.location), *scan.groups.values()):
            if not encodes(str(text)):
                raise ScanError(f"{where}: {printed(str(text))!r} is not UTF-8; rename it, or set PYTHONUTF8=1.")
