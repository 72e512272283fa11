"""Synthetic people: the embedded source, which needs no download.

A head is made of mirror-symmetric tissue maps: bent by a random uneven warp, scaled, tilted, given tissue proportions
of its own, crossed by vessels, seen by an imperfect scanner. Patients carry metastases, a glioma, or atrophy. A head
depends on the seed and the person's name alone, not on the cohort; another contrast shows the same anatomy and lesions,
another voxel size the same anatomy.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.phantom.anatomy import anatomy_of, noise, streams
from symnorm_jax.data.phantom.lesions import LABELS, PLANTED
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ConfigError, check_options
from symnorm_jax.geometry import centred_affine

FORMAT = 2  # raise it when the same arguments come to give other voxels
# Of grey matter, white matter, cerebrospinal fluid and vessels.
INTENSITIES = {"t1": (150, 215, 60, 240), "flair": (165, 125, 35, 195), "t1_gd": (140, 185, 70, 300)}
CHOICES = {"contrast": INTENSITIES, "disease": ("atrophy", *PLANTED), "labels": LABELS}
BOUNDS = {"spacing": (0.8, 8.0), "noise": (0.0, 5.0)}  # mm; times the noise of the scanners below


class Look(NamedTuple):
    """What decides how a person is seen."""

    seed: int
    contrast: str = "t1"
    spacing: float = 2.0
    labels: str = "whole"
    noise: float = 1.0
    visit: int = 0


def records(
    root: str | None,
    *,
    healthy: int,
    patients: int,
    seed: int,
    contrast: str = "t1",
    spacing: float = 2.0,
    disease: str = "metastases",
    labels: str = "whole",
    noise: float = 1.0,
    visits: int = 1,
) -> list[Scan]:
    """List healthy people, then patients with metastases, one glioma each or, with `atrophy`, wide fluid spaces.

    `spacing` is the edge of a voxel in mm; `root` is not used. `labels` says how much of a lesion the mask holds:
    the whole, its core without the oedema, or what takes up gadolinium; patients with atrophy have no mask. `noise`
    multiplies the scanner's. At every one of `visits` the same head is seen by the scanner anew.
    """
    check_options(CHOICES, contrast=contrast, disease=disease, labels=labels)
    for key, value in (("spacing", spacing), ("noise", noise)):
        low, high = BOUNDS[key]
        if not low <= value <= high:
            raise ConfigError(f"data.options.{key}={value}; {low} to {high} is allowed.")
    if min(healthy, patients, seed) < 0 or visits < 1:
        counts = f"healthy={healthy}, patients={patients} and seed={seed}"
        raise ConfigError(f"{counts} must not be negative, visits={visits} not below 1.")
    looks = [Look(seed, contrast, float(spacing), labels, float(noise), visit) for visit in range(visits)]
    people = [(f"phantom-h{k:04d}", None) for k in range(healthy)]
    people += [(f"phantom-p{k:04d}", disease) for k in range(patients)]
    return [_scan(*person, look, f"visit{look.visit}" if visits > 1 else "") for person in people for look in looks]


def load(person: str, disease: str | None, look: Look, reading: Reading = STRICT) -> Volume:
    """Draw a person's head, ill or not, as the scanner shows it at one visit; no file is read."""
    anatomy = anatomy_of(person, disease == "atrophy", look.seed, look.spacing)
    brain, spacings = anatomy.brain, np.full(3, look.spacing)
    *_, illness, scanner = streams(person, look.seed)
    means = np.array(INTENSITIES[look.contrast]) * anatomy.levels
    head = np.zeros(brain.shape, np.float32)
    head[brain] = means[:3] @ anatomy.fractions
    head *= anatomy.texture
    head[brain] += anatomy.flow * (means[3] - head[brain])
    lesion = None if disease == "atrophy" else np.zeros(brain.shape, bool)
    if disease in PLANTED:
        grey, white = np.zeros((2, *brain.shape), np.float32)
        grey[brain], white[brain] = anatomy.fractions[:2]
        head, planted = PLANTED[disease](head, brain, grey, white, spacings, look.contrast, illness)
        lesion = np.isin(planted, LABELS[look.labels])
    scanner = scanner.spawn(look.visit)[-1] if look.visit else scanner
    voxels = _acquire(scanner, head, brain, means[1], spacings, look.noise)
    return Volume(voxels, centred_affine(brain.shape, tuple(spacings)), lesion, brain.copy())


def _scan(person: str, disease: str | None, look: Look, session: str) -> Scan:
    recipe = f"phantom format {FORMAT}: {person}, {disease or 'healthy'}, "
    recipe += f"seed {look.seed}, {look.contrast}, {look.spacing!r} mm"
    recipe += f", {look.labels}" * (look.labels != "whole") + f", noise {look.noise!r}" * (look.noise != 1)
    recipe += f", visit {look.visit}" * (look.visit > 0)
    load_, tissue = (functools.partial(one, person, disease, look) for one in (load, tissue_of))
    return Scan(person, session, disease is None, load_, recipe=recipe, tissue=tissue)


def tissue_of(person: str, disease: str | None, look: Look, volume: Volume) -> np.ndarray:
    """Draw what a person's brain is made of: 1 grey matter, 2 white matter, 3 fluid; 0 outside it."""
    anatomy = anatomy_of(person, disease == "atrophy", look.seed, look.spacing)
    tissue = np.zeros(volume.voxels.shape, np.uint8)
    tissue[anatomy.brain] = 1 + anatomy.fractions.argmax(0)
    return tissue


def _acquire(rng, head, brain, white_mean: float, spacings, noisier: float) -> np.ndarray:
    """Show the head as a scanner does: blurred across slices, unevenly lit, noisy (Rician), skull-stripped."""
    seen = ndimage.gaussian_filter1d(head, rng.uniform(0.4, 1.0) / spacings[2], axis=2)
    seen *= np.exp(0.08 * noise(rng, head.shape, spacings, 70.0))
    grain = rng.uniform(0.025, 0.035) * noisier * white_mean * rng.standard_normal((2, *head.shape), dtype=np.float32)
    return np.where(brain, np.hypot(seen + grain[0], grain[1]), 0).astype(np.float32)
