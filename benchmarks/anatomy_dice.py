"""How well dal's anatomy, and what it restores of it, agree with the labels it learned from, contrast by contrast.

python benchmarks/anatomy_dice.py --run=runs/dal --split=val

Dice of each class over all slices of a split, whose labels the run has prepared and not learned from; in which share of
the brain the anatomy is the one seen without a change; and the mean error of the pseudo-healthy image, in shares of the
brain's range. Then how often a linear classifier, which has not seen the person, tells under which change a slice is
seen: by its imaging information, by its anatomy, and by the anatomy as it was restored, in shares of classes on a grid
of GRID x GRID cells.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GroupKFold, cross_val_score

from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.store import SampleSource
from symnorm_jax.errors import reported
from symnorm_jax.inference.shifts import UNCHANGED, changed
from symnorm_jax.report.table import Table
from symnorm_jax.rundir import read_config
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.anatomy import in_own_unit
from symnorm_jax.systems.contrast import FIXED
from symnorm_jax.systems.dal import Dal
from symnorm_jax.training.transfer import restored, shapes_of

GRID = 8  # cells along each side of a slice

_RUN = flags.DEFINE_string("run", None, "A finished run of dal.", required=True)
_SPLIT = flags.DEFINE_enum("split", "val", ("val", "test"), "Whose slices.")


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)
    config, rows = read_config(Path(_RUN.value)), read_manifest(Path(_RUN.value) / "manifest.csv")
    rows, model = rows[rows.split == _SPLIT.value], Dal(config)
    rows = rows[rows.label == "healthy"]
    variables = restored(_RUN.value, BUILD["dal"](config), shapes_of(BUILD["dal"](config), config))
    source = SampleSource(config.data.store, rows, prior=(config.anatomy.prior, config.anatomy.classes))
    samples = [source[i] for i in range(len(source))]
    held, prior = (
        np.stack([np.concatenate([one[x] for x in names], -1) for one in samples])
        for names in (("image", "brain", "brain"), ("prior",))
    )
    find, lines, first, told = partial(jax.jit(model.find), variables), [], None, []
    for name, curve in {UNCHANGED: None, **FIXED}.items():
        seen, restored_, theta, error = _found(find, held if curve is None else changed(held, rows, curve, config.data))
        first = seen if first is None else first
        inside = held[..., 1] > 0
        same = (seen.argmax(-1) == first.argmax(-1))[inside].mean()
        each = [_dice(x, prior.argmax(-1), inside, config.anatomy.classes) for x in (seen, restored_)]
        lines.append([name, *each[0], each[0].mean(), each[1].mean(), same, error])
        told.append({"imaging": theta, "seen": _cells(seen), "restored": _cells(restored_)})
    classes = [f"class {1 + k}" for k in range(config.anatomy.classes)]
    caption = f"Dice, {len(rows)} healthy slices of {rows.patient.nunique()} people, {_SPLIT.value}"
    Table(caption, ["change", *classes, "mean", "restored, mean", "agreement", "error"], lines).print()
    shares = [[name, _told([one[name] for one in told], rows.patient.to_numpy())] for name in told[0]]
    Table(f"Which of {len(told)} changes it is, told by", ["of a slice", "share of slices"], shares).print()


def _found(find, held: np.ndarray, batch: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Give anatomy as seen and restored, imaging information, and the mean error of the pseudo-healthy image."""
    seen, again, thetas, errors, brains = [], [], [], 0.0, 0.0
    for start in range(0, len(held), batch):
        part = jnp.asarray(held[start : start + batch], jnp.float32)
        image, brain = in_own_unit(part[..., :1], part[..., 1:2])[0], part[..., 1:2]
        found = find(image, brain)
        seen.append(np.asarray(found.seen))
        again.append(np.asarray(found.restored))
        thetas.append(np.asarray(found.theta).reshape(len(part), -1))
        errors, brains = errors + float((jnp.abs(found.healthy - image) * brain).sum()), brains + float(brain.sum())
    return *(np.concatenate(each) for each in (seen, again, thetas)), errors / brains


def _cells(shares: np.ndarray) -> np.ndarray:
    """Average classes `[N, X, Y, K]` over cells, `[N, GRID * GRID * K]`."""
    n, x, y, k = shares.shape
    return shares.reshape(n, GRID, x // GRID, GRID, y // GRID, k).mean((2, 4)).reshape(n, -1)


def _told(features: list[np.ndarray], patients: np.ndarray) -> float:
    """Give the share of slices of which `features`, one array a change, tell the change, over folds of people."""
    x, labels = np.concatenate(features), np.repeat(np.arange(len(features)), len(patients))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    return cross_val_score(model, x, labels, cv=GroupKFold(5), groups=np.tile(patients, len(features))).mean()


def _dice(found: np.ndarray, truth: np.ndarray, inside: np.ndarray, classes: int) -> np.ndarray:
    one, other = found.argmax(-1)[inside], truth[inside]
    each = [((one == k), (other == k)) for k in range(classes)]
    return np.array([2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in each])


if __name__ == "__main__":
    with reported():
        app.run(main)
