"""A scan to a verdict, a map and lesions, by a finished model. Nothing is fitted."""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from symnorm_jax.channels import MAP
from symnorm_jax.data.volumes import keep, on_grid
from symnorm_jax.errors import ScanError
from symnorm_jax.inference import blobs, quality, verdict
from symnorm_jax.inference.distil import read
from symnorm_jax.inference.model import Model
from symnorm_jax.inference.reading import Prepared, columns_of, prepared, scans_of
from symnorm_jax.inference.told import About
from symnorm_jax.scoring.embed import Arrays, Embedder
from symnorm_jax.scoring.mahalanobis import distance
from symnorm_jax.scoring.scores import of_arrays, own, summed
from symnorm_jax.training.passes import map_of, raw_maps, scan_of
from symnorm_jax.training.sharding import make_mesh

SCHEMA = 1  # of `Result.about`; raised when a key goes or changes its meaning
BATCH = 16  # slices that networks see at a time; a scan has some forty


class Result(NamedTuple):
    """What is said of one scan. The images are of nibabel and lie on its own grid."""

    about: dict[str, Any]  # all of it, plain JSON
    scan: Any  # float32, its leading contrast within the brain, 0 outside
    brain: Any  # uint8
    map: Any  # float32, of slices signed, in healthy residuals; of volumes the system's own, None where it makes none
    lesions: Any  # uint16: what the map shows above its threshold, numbered, the largest first; likewise

    @property
    def score(self) -> float:
        """The person's score, larger for what is less normal."""
        return self.about["score"]

    @property
    def verdict(self) -> str:
        """`abnormal`, `normal` or, with `about["reasons"]`, `unknown`."""
        return self.about["verdict"]

    @property
    def qc(self) -> dict[str, Any]:
        """What was asked before the verdict, each with the range of the training scans."""
        return self.about["quality"]


class Scorer:
    """A model that is ready to be called."""

    def __init__(self, model: Model):
        self.model, self.checksum = model, model.checksum
        config = model.config.copy_and_resolve_references()
        config.score.batch_size = min(config.score.batch_size, BATCH)
        self.embedder = Embedder(model.system, config, model.variables, model.healthy, make_mesh())

    @classmethod
    def load(cls, path: str | Path) -> "Scorer":
        """Read the folder of a model, a run directory, or a model that comes along, as `ixi_t1`.

        Raises RunError where it is none of them.
        """
        return cls(read(Path(path)))

    def __call__(self, image, brain: str | Path | None = None, kind: str = "auto") -> Result:
        """Score an `image` of nibabel or a file, perhaps with a file of its brain mask; else `kind` says where from.

        Raises ScanError where the scan cannot be used.
        """
        with tempfile.TemporaryDirectory(prefix="symnorm-") as folder:
            path = Path(image) if isinstance(image, str | Path) else keep(image, Path(folder))
            scans = scans_of(path, brain and str(brain), columns_of(self.model.config))
            if len(scans) > 1:
                raise ScanError(f"{path}: holds {len(scans)} scans; one is scored by a call.")
            made = prepared(scans[0], self.model.config.data, kind)
            if isinstance(made, str):
                raise ScanError(f"{path}: {made}")
            return self.judge(made)

    def judge(self, made: Prepared) -> Result:
        """Score a scan that has been cut."""
        found = self.embedder.whole(made.rows, "", held=made.arrays)
        about, shown, labels = self._about(made, self._scored(made.rows, found)), None, None
        if MAP in found:
            shown = blobs.back(made, self.signed(made.rows, found))
            labels, about["blobs"] = blobs.found(made, found, shown, self.model)
            asked = {"kind": blobs.kind_of, "unit": blobs.unit_of, "threshold": blobs.map_threshold}
            about["map"] = {name: of(self.model) for name, of in asked.items()}
        images = made.voxels, made.brain.astype(np.uint8), shown, labels
        return Result(about, *(_on_grid(made, x) for x in images))

    def signed(self, rows: pd.DataFrame, found: Arrays) -> np.ndarray:
        """Make the map `[N, X, Y]` before the sign is chosen in which a lesion is expected; of volumes none is."""
        if "raw" not in found:
            return found[MAP]
        config, scan = self.model.config, scan_of(rows, found["brain"])
        raw = raw_maps(found["raw"], found["image"], found["brain"], config)
        return map_of(raw, scan, self.model.healthy, config, signed=True)

    def _scored(self, rows: pd.DataFrame, found: Arrays) -> pd.DataFrame:
        """Give the rows the scores of the system, as the run's own table has them."""
        z, size = found["z"], self.embedder.size
        padded = np.pad(z, ((0, -len(z) % size), (0, 0)))  # in parts of one length, for each length is compiled
        far = np.concatenate([distance(self.model.gaussian, z) for z in np.split(padded, len(padded) // size)])
        scores = {name: x for name, x in of_arrays(found).items() if own(name)}
        return summed(rows.assign(**scores, mahalanobis=far[: len(z)]), self.model.thresholds["moments"])

    def _about(self, made: Prepared, slices: pd.DataFrame) -> dict[str, Any]:
        config, scan, reference = self.model.config, made.scan, self.model.reference
        known, one = About(scan.location, scan.groups, made.brain_from), (made.rows, made.arrays, made.about, config)
        measured, doubts = quality.asked(quality.measured(*one), known, config, reference)
        listed = slices[["slice", "position"]].assign(score=slices[config.score.headline].astype(float))
        each = [row | {"centre_mm": _centre(made, config.data.size, row["slice"])} for row in listed.to_dict("records")]
        return {
            "schema": SCHEMA,
            **{"patient": scan.patient, "session": scan.session, "source": scan.location, "model": self.checksum},
            **verdict.of_person(slices, dict(scan.groups), list(doubts.values()), self.model),
            "worst_slice": each[int(listed.score.argmax())],
            **{"map": None, "blobs": [], "brain_from": made.brain_from},
            "quality": {name: {"value": x} | reference["ranges"][name] for name, x in measured.items()},
            "flag": str(made.rows.flag.iloc[0]),
            "versions": {name: version(name) for name in ("symnorm_jax", "jax")},
            "slices": each,
        }


def _on_grid(made: Prepared, values: np.ndarray | None) -> Any:
    """Lay what is known of the brain's box on the whole grid of the scan."""
    if values is None:
        return None
    filled = np.zeros(made.shape, values.dtype)
    filled[made.box] = values
    return on_grid(filled, made.affine, made.scan.stored)


def _centre(made: Prepared, size: tuple[int, ...], number: int) -> list[float]:
    """Find the centre of a sample in the scan's own space, RAS+ mm."""
    middle = [*((np.array(size) - 1) / 2), number][:3]
    return (made.affine @ np.array(made.about["to_voxel"]) @ [*middle, 1])[:3].round(1).tolist()
