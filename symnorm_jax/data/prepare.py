"""Scans to prepared samples and a manifest, in parallel; a scan that is already in the store is not read again."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax.data import brain, manifest, samples, store, template
from symnorm_jax.data.audit import audit
from symnorm_jax.data.finding import find_scans
from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.data.phantom import atlas
from symnorm_jax.data.volumes import Scan, Volume, digest
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.files import remove_partial
from symnorm_jax.geometry import voxel_sizes
from symnorm_jax.progress import progress
from symnorm_jax.settings import ALL_TEST, LABELS

FORMAT = "slices 6"  # a new value makes every store stale: change it when the same settings give other samples
PREPARING = ["brain", "brain_values", "extractor", "lesion_values", "margin", "midline", "min_brain", "min_lesion"]
PREPARING += ["min_similarity", "normalise", "percentiles", "poor_header", "poor_midline", "size", "slice_spacing"]
PREPARING += ["spacing"]


def prepare(
    config: ConfigDict, seed: int, foresee: Callable[[pd.DataFrame], None] = len, prior: store.Prior | None = None
) -> pd.DataFrame:
    """Make the manifest of the `data` section `config`: find scans, cut, split by patient and audit for leaks.

    Before a scan is read, `foresee` may refuse rows of patients, groups and splits, as if every scan could be used.
    Shares of tissue are stored where a `prior` is asked for.
    Raises ScanError where the source finds nothing or, with `strict`, at the first unusable scan; ConfigError where
    a choice is unknown; LeakageError where the splits share a patient, a file or a sample.
    """
    brain.check(config.brain, config.extractor)
    if config.midline == "template":
        template.check_installed()
    scans = find_scans(config)
    foresee(_split(listed(scans), config, seed))
    if prior and prior[0] == LABELS and not any(scan.tissue for scan in scans):
        found = f"data.source={config.source!r}, of which no scan has a map of tissue, for a system that learns from it"
        raise ConfigError(f"{found}; ixi with DLMUSE, a table with tissue_path, or phantom is allowed.")
    table = store_scans(scans, config, prior)
    if (table.split == "excluded").all():
        raise ScanError(f"none of {len(table)} scans could be used; the first: {table.exclusion[0]}")
    table = _split(table, config, seed)
    trained = table[manifest.trainable(table, config.train_on)]
    lacking = store.without_prior(config.store, trained, prior).patient.unique()
    if len(lacking):
        people = f"{len(lacking)} of {trained.patient.nunique()} people to train on have no map of tissue"
        raise ScanError(f"{people}, the first {lacking[0]}; leave them out, or let the system learn without such maps.")
    audit(table, partial(read_scan, Path(config.store)), config.duplicate)
    for split in () if tuple(config.split) == ALL_TEST else manifest.SPLITS:
        healthy = manifest.normal(table, config.train_on) if split == "train" else table.label == "healthy"
        found, needed = int((healthy & (table.split == split)).sum()), 1 if split == "test" else 2  # they must vary
        if found < needed:
            held = f"the {split} split holds {found} healthy samples with data.train_on={config.train_on!r}"
            raise ScanError(f"{held}; {needed} or more are needed, so add scans.")
    return table


def listed(scans: list[Scan]) -> pd.DataFrame:
    """List what may be found in scans before they are read: groups, patient and split, a row a possible label."""
    known = []
    for scan in scans:
        split = scan.split if scan.labelled else manifest.UNLABELLED
        person = {**scan.groups, "patient": scan.patient, "healthy_person": scan.healthy, "split": split}
        known += [person | {"label": label} for label in manifest.KNOWN[: 1 if scan.healthy else 2]]
    return pd.DataFrame(known)


def _split(table: pd.DataFrame, config: ConfigDict, seed: int) -> pd.DataFrame:
    held = manifest.hold_out(table, config.held_out)
    fold = config.fold, config.folds
    return held.assign(split=manifest.assign_splits(held, config.split, config.train_on, seed, fold))


def store_scans(scans: list[Scan], config: ConfigDict, prior: store.Prior | None = None) -> pd.DataFrame:
    """Cut scans into the store; the manifest's rows, not yet split. With `strict` raises ScanError, as `prepare`."""
    folder = Path(config.store)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder)
    made_by = f"{FORMAT}, {template.FORMAT}" if config.midline == "template" else FORMAT
    settings = json.dumps({key: config[key] for key in PREPARING} | {"format": made_by}, sort_keys=True)
    work = [joblib.delayed(_prepare_scan)(scan, config, settings, folder, prior) for scan in scans]
    rows = [row for rows in progress(in_parallel(work, config.workers), "preparing", len(work)) for row in rows]
    return pd.DataFrame(rows).rename_axis("index")


def _prepare_scan(
    scan: Scan, config: ConfigDict, settings: str, folder: Path, prior: store.Prior | None = None
) -> list[dict]:
    """Cut and store one scan unless it was before; its manifest rows, or one with the reason if unusable."""
    shared = {**scan.groups, "patient": scan.patient, "session": scan.session, "healthy_person": scan.healthy}
    shared |= {"source": scan.location, "exclusion": "", "flag": "", "planted_sha256": ""}
    try:
        sha256, key = scan.sha256(), _digest(scan, scan.recipe, str(scan.healthy), settings)
        planted = digest([scan.planted]) if scan.planted else ""
        about = store.read_about(folder, key)
        known = prior and (prior[0] != LABELS or scan.tissue)
        asked = bool(known and not store.has_prior(folder, key, prior))
        if about is None or asked:
            volume, cache = scan.load(), folder / f"{_digest(scan, scan.name, scan.recipe)}.{config.extractor}.npz"
            kind = brain.choose(volume, config.brain)
            mask = brain.brain_mask(volume, kind, config.extractor, cache)
            made = samples.cut(volume, mask, scan.healthy, config)
        if asked:
            shares = _shares(scan, volume, mask, made, prior)
    except (ScanError, OSError) as error:
        if config.strict:
            raise ScanError(f"{scan.name}: {error}") from None
        logging.warning("%s is left out: %s", scan.name, error)
        return [shared | {"split": "excluded", "exclusion": str(error), "label": "", "sha256": "", "store": ""}]
    if about is None:  # outside the try: a full disk is no fault of the scan
        about = {"rows": made.rows, "left_out": made.left_out, "to_voxel": made.frame.to_voxel.tolist(), "brain": kind}
        store.write(folder, key, made.arrays, about)
    if asked:
        store.write_prior(folder, key, prior, shares)
    shared |= {"sha256": sha256, "planted_sha256": planted, "store": key}
    shared |= {"brain": about["brain"], "records_in_scan": len(about["rows"])}
    shared |= {"slices_left_out": about["left_out"], "split": scan.split if scan.labelled else manifest.UNLABELLED}
    rows = [row | {"label": _label(scan, row["label"], config)} for row in about["rows"]]
    return [shared | row | {"record": record} for record, row in enumerate(rows)]


def _label(scan: Scan, shown: str, config: ConfigDict) -> str:
    """Label a sample as it is `shown`, where anybody knows; an abnormal person's volume without a lesion is neither."""
    if not scan.labelled:
        return manifest.UNLABELLED
    lost = shown == "healthy" and not scan.healthy and len(config.size) == 3
    return "neither" if lost else shown


def _shares(scan: Scan, volume: Volume, mask: np.ndarray, made: samples.Samples, prior: store.Prior) -> np.ndarray:
    """Give the shares of tissue `[N, X, Y, K]` of a scan that was cut. Raises ScanError for labels that are none."""
    kind, classes = prior
    voxel = voxel_sizes(volume.affine)
    if kind == LABELS:
        return samples.shares_of(scan.tissue(volume), made, voxel, classes)
    return samples.cut_shares(atlas.shares(mask), made, voxel)


def _digest(scan: Scan, *texts: str) -> str:
    return digest([*scan.files, *scan.others, *scan.extras], *texts)[:24]


def read_scan(folder: Path, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Read the images `[N, *S]` float32 and brains, bool, of manifest rows from the store in `folder`."""
    source = store.SampleSource(folder, rows)
    samples = [source[i] for i in range(len(rows))]
    images, brains = (np.stack([one[key][..., 0] for one in samples]) for key in ("image", "brain"))
    return images, brains > 0
