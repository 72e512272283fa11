"""In which share of the brain dal sees one anatomy in real contrasts of one head, beside what chance would give.

python benchmarks/anatomy_contrasts.py --run=runs/dal --scans=t1n.nii.gz,t1c.nii.gz,t2w.nii.gz,t2f.nii.gz

The scans lie on one grid and are skull-stripped. The first gives the brain and the mid-line for all. Kappa is what of
the agreement is beyond that of two anatomies with the same shares of classes that know nothing of each other (Cohen
1960).
"""

from functools import partial
from itertools import combinations
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from sklearn.metrics import cohen_kappa_score

from symnorm_jax.data import brain, samples
from symnorm_jax.data.volumes import read_volume
from symnorm_jax.errors import reported
from symnorm_jax.report.table import Table
from symnorm_jax.rundir import read_config
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.anatomy import in_own_unit
from symnorm_jax.systems.dal import Dal
from symnorm_jax.training.transfer import restored, shapes_of

_RUN = flags.DEFINE_string("run", None, "A finished run of dal.", required=True)
_SCANS = flags.DEFINE_list("scans", None, "Files of one head's contrasts on one grid.", required=True)


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)
    config, paths = read_config(Path(_RUN.value)), [Path(path) for path in _SCANS.value]
    first, *others = (read_volume(path) for path in paths)
    first = first._replace(others={path.name: one.voxels for path, one in zip(paths[1:], others, strict=True)})
    made = samples.cut(first, brain.brain_mask(first, "nonzero", config.data.extractor), False, config.data).arrays
    made, inside = made.astype(np.float32), made[..., -2] > 0
    find = jax.jit(partial(Dal(config).find, restored(_RUN.value, BUILD["dal"](config), _shapes(config))))
    seen = [_classes(find, made[..., i : i + 1], made[..., -2:-1], inside) for i in range(len(paths))]
    lines = []
    for one, other in combinations(range(len(paths)), 2):
        cells = [paths[one].name, paths[other].name]
        for each in range(2):  # as seen, as restored
            a, b = seen[one][each], seen[other][each]
            cells += [(a == b).mean(), cohen_kappa_score(a, b)]
        lines.append(cells)
    header = ["contrast", "and", "same class", "kappa", "restored, same class", "kappa"]
    Table(f"Anatomy of {len(made)} slices", header, lines).print()


def _shapes(config):
    return shapes_of(BUILD["dal"](config), config)


def _classes(find, image: np.ndarray, mask: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the classes of the pixels of brains, as seen and as restored."""
    found = find(in_own_unit(image, mask)[0], mask)
    return tuple(np.asarray(shares).argmax(-1)[inside] for shares in (found.seen, found.restored))


if __name__ == "__main__":
    with reported():
        app.run(main)
