"""The pass between stages: the maps of the training slices, made once, and what healthy people show in them.

`maps/` of a run holds `raw.npy` `[N, X, Y]`, made by the networks of the stages before, `healthy.npz`, and
`difference.npy` `[N, X, Y]`, standardised; N are the training rows of the manifest, in their order. The raw maps of
several contrasts are `[N, X, Y, C]`. A file is whole or not there, and one that stands is not made again.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax import channels, standardise
from symnorm_jax.data.pipeline import scoring_batches
from symnorm_jax.data.store import SampleSource
from symnorm_jax.errors import RunError
from symnorm_jax.files import load_array, load_arrays, save_array, save_arrays
from symnorm_jax.hosts import on_lead
from symnorm_jax.progress import progress
from symnorm_jax.rundir import DIFFERENCE, HEALTHY, MAPS, RAW
from symnorm_jax.standardise import Fitted, How, Scan
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training.sharding import answering, evenly, make_mesh

TOGETHER = "together"  # the name in healthy.npz of what is measured of several contrasts
SEEN = ("image", "brain", "index", "valid")  # what a system sees of slices that it does not learn from


class Healthy(NamedTuple):
    """What a run has measured of healthy people."""

    maps: Fitted  # of each map alone
    together: np.ndarray | None = None  # [P, C, C], the covariance of the system's maps of several contrasts


def maps_of(config: ConfigDict) -> dict[str, How]:
    """List the maps that are standardised: the system's of each contrast, and those of the leading one's intensity."""
    own = channels.channels_of(config)
    trivial = {"trivial_intensity_by_position": 0.0, "trivial_asymmetry": 0.5}
    lead = next(iter(own.values()))._replace(standard="position")
    return own | {name: lead._replace(antisymmetry=share) for name, share in trivial.items()}


def raw_maps(raw: np.ndarray, image: np.ndarray, brain: np.ndarray, config: ConfigDict) -> dict[str, np.ndarray]:
    """Give what each of the maps is made of, `[N, X, Y]`, for one scan: of raw ones `[N, X, Y, C]` and intensities."""
    plain, own = standardise.intensity(image, brain), np.moveaxis(raw, -1, 0)
    trivial = {"trivial_intensity_by_position": plain, "trivial_asymmetry": plain}
    return dict(zip(channels.channels_of(config), own, strict=True)) | trivial


def map_of(raw: dict[str, np.ndarray], scan: Scan, healthy: Healthy, config: ConfigDict, signed=False) -> np.ndarray:
    """Make the map `[N, X, Y]` of one scan, in the sign that is expected, of the raw ones of its contrasts.

    That of one contrast may be asked for as it is, `signed`; of several each has its own sign.
    """
    kinds = [how.kind for how in channels.channels_of(config).values()]
    kinds = ["signed"] if signed and len(kinds) == 1 else kinds
    return channels.combined(_alone(raw, scan, healthy.maps, config), kinds, scan.position, healthy.together)


def measured(sweep: standardise.Sweep, config: ConfigDict) -> Healthy:
    """Measure the healthy: each map alone and then, if it is asked for, how those of several contrasts go together."""
    fitted = standardise.fit(sweep, maps_of(config))
    if not channels.joint(config):
        return Healthy(fitted)
    scans = ((scan, _alone(raw, scan, fitted, config)) for scan, raw in sweep())
    return Healthy(fitted, channels.covariance(scans, config.difference.width))


def _alone(raw: dict[str, np.ndarray], scan: Scan, fitted: Fitted, config: ConfigDict) -> list[np.ndarray]:
    """Standardise the raw map of each contrast for itself."""
    hows = channels.channels_of(config)
    return [standardise.standardised(raw[name], scan, fitted[name], how) for name, how in hows.items()]


def scan_of(rows: pd.DataFrame, brain: np.ndarray) -> Scan:
    """Describe a scan by its rows of a manifest, in the order of its slices."""
    return Scan(brain, rows.position.to_numpy(float), rows.height_mm.to_numpy(float))


def healthy_of(run: str | Path, config: ConfigDict) -> Healthy:
    """Read what a run has measured of healthy people. Raises RunError where it has not."""
    path = Path(run) / MAPS / HEALTHY
    if not path.exists():
        raise RunError(f"{path} is missing; the run's training makes it.")
    arrays = load_arrays(path)
    return Healthy(standardise.from_arrays(arrays, maps_of(config)), arrays.get(TOGETHER))


class Pass:
    """The pass of a run over its training `rows` of the manifest."""

    def __init__(self, system: System, config: ConfigDict, rows: pd.DataFrame, workdir: Path):
        self.system, self.config, self.rows, self.folder = system, config, rows, workdir / MAPS
        self.source = SampleSource(config.data.store, rows)
        self._fits_nothing = bool(config.init_from) and config.finetune.kind == "none"

    def differences(self, variables: Variables) -> np.ndarray:
        """Give the standardised maps of the rows, `[N, X, Y]` in half precision, made first where they are not there.

        A run that fits nothing, `finetune.kind=none`, standardises by what its source has measured of healthy people;
        every other measures its own. Raises RunError where no map goes beyond `difference.threshold`, if there is one.
        """
        on_lead(lambda: self.folder.mkdir(parents=True, exist_ok=True))
        if not (self.folder / RAW).exists():
            raw = self._raw(variables)
            on_lead(partial(save_array, self.folder / RAW, raw))
        on_lead(self._standardise)
        found = load_array(self.folder / DIFFERENCE)
        self._check_reach(float(np.abs(found).max()))
        return found

    def _raw(self, variables: Variables) -> np.ndarray:
        of, mesh = self.system.residual, make_mesh(self.config.sharding.fsdp)
        size, parts = evenly(self.config.score.batch_size, mesh), []
        residual = answering(lambda variables, batch: of(variables, batch).map, mesh)
        for batch in progress(scoring_batches(self.source, size), "maps of training", -(-len(self.source) // size)):
            out = np.asarray(residual(variables, {name: batch[name] for name in SEEN}))
            parts.append(out[batch["valid"]].astype(np.float16))
        raw = np.concatenate(parts)
        return raw if raw.shape[-1] > 1 else raw[..., 0]

    def _standardise(self) -> None:
        if not (self.folder / HEALTHY).exists():
            source = self.config.init_from
            own = healthy_of(source, self.config) if self._fits_nothing else measured(self._sweep, self.config)
            together = {} if own.together is None else {TOGETHER: own.together}
            save_arrays(self.folder / HEALTHY, standardise.to_arrays(own.maps) | together)
        if not (self.folder / DIFFERENCE).exists():
            healthy = healthy_of(self.folder.parent, self.config)
            found = np.empty(load_array(self.folder / RAW).shape[:3], np.float16)
            for place, scan, raw in self._scans():
                found[place] = map_of(raw, scan, healthy, self.config)
            save_array(self.folder / DIFFERENCE, found)

    def _check_reach(self, most: float) -> None:
        """Raise RunError where all training slices would be embedded as one, whose spread of 0 no Gaussian has."""
        section = self.config.difference
        if "threshold" in section and most <= section.threshold and not self._fits_nothing:
            found = f"difference.threshold={section.threshold:g}, and the maps of training slices reach {most:.3g}"
            raise RunError(f"{self.folder}: {found}; a threshold below that is needed.")

    def _sweep(self) -> Iterator[tuple[Scan, dict[str, np.ndarray]]]:
        return ((scan, raw) for _, scan, raw in self._scans())

    def _scans(self) -> Iterator[tuple[np.ndarray, Scan, dict[str, np.ndarray]]]:
        """Go through the scans: their places among the rows, what is known of their slices, and their raw maps."""
        raw = load_array(self.folder / RAW)
        raw = raw.reshape(*raw.shape[:3], -1)
        for place in standardise.scans_of(self.rows):
            samples = [self.source[int(i)] for i in place]
            image, brain = (np.stack([one[name][..., 0] for one in samples]) for name in ("image", "brain"))
            brain = brain > 0
            yield place, scan_of(self.rows.iloc[place], brain), raw_maps(raw[place], image, brain, self.config)
