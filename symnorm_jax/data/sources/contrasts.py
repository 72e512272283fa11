"""Several contrasts of a person as one scan: each is listed as if alone, then they are joined by person and session.

The first one leads: standing, masks and groups are those of its scan. Nothing is registered here, so the others must
lie on its grid.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import NoReturn

from symnorm_jax.data.headers import MAX_VOXELS
from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.listing import refuse
from symnorm_jax.data.volumes import GRID_MM, Scan, Volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import corners_apart
from symnorm_jax.settings import contrasts


def several(records: Callable[..., list[Scan]]) -> Callable[..., list[Scan]]:
    """Let the `records` of a source that lists one `channel` list several, named with commas."""

    @wraps(records)
    def listed(root: str, **options) -> list[Scan]:
        names = contrasts(options["channel"]) if "channel" in options else ()
        if len(names) < 2:
            return records(root, **options)
        return joined({name: records(root, **options | {"channel": name}) for name in names})

    return listed


def joined(lists: dict[str, list[Scan]]) -> list[Scan]:
    """Join the scans that each contrast has; one of a person who lacks a contrast says so when it is read."""
    found = {}
    for name, scans in lists.items():
        for scan in scans:
            found.setdefault((scan.name, scan.split), {})[name] = scan
    return [_joined(scans, tuple(lists)) for scans in found.values()]


def _joined(scans: dict[str, Scan], names: tuple[str, ...]) -> Scan:
    if len(names) == 1:
        return scans[names[0]]
    lead, fault = next(iter(scans.values())), _fault(scans, names)
    load = partial(_refused, fault) if fault else partial(read_together, {name: scans[name].load for name in names})
    others = [file for scan in scans.values() for file in scan.files if file not in lead.files]
    recipe = "; ".join(f"{name}: {scans[name].recipe if name in scans else None}" for name in names)
    return lead._replace(load=load, others=tuple(others), recipe=recipe)


def _fault(scans: dict[str, Scan], names: tuple[str, ...]) -> str:
    """Say why scans cannot be joined, if so."""
    if lacking := [name for name in names if name not in scans]:
        return f"there is no {' and no '.join(lacking)}; all of {', '.join(names)} are needed"
    drawn = [name for name in names if scans[name].drawn]
    if drawn and drawn[0] != names[0]:
        return f"the lesion mask is of {drawn[0]}, not of the first contrast, {names[0]}; name {drawn[0]} first"
    return ""


def _refused(fault: str, reading: Reading = STRICT) -> NoReturn:
    raise ScanError(f"{fault}.")


def read_together(loads: dict[str, Callable[..., Volume]], reading: Reading = STRICT) -> Volume:
    """Read the contrasts of a scan, by name, as one volume. Raises ScanError where they are not on one grid."""
    (lead, load), *rest = loads.items()
    volume = load(reading=reading)
    shape, claimed = volume.voxels.shape, len(loads) * volume.voxels.size
    refuse(lead, claimed > MAX_VOXELS, f"{len(loads)} contrasts of {shape} voxels; {MAX_VOXELS} in all are allowed")
    for name, load in rest:
        other = load(reading=reading)
        grids = f"{name} has the shape {other.voxels.shape}, {lead} has {shape}"
        refuse(lead, other.voxels.shape != shape, f"{grids}; all contrasts must be on one grid")
        apart = corners_apart(other.affine, volume.affine, shape)
        refuse(lead, apart > GRID_MM, f"corners of {name} lie {apart:.2f} mm from its own; {GRID_MM} mm are allowed")
        notes = tuple(dict.fromkeys(volume.notes + other.notes))
        volume = volume._replace(others=volume.others | {name: other.voxels}, notes=notes)
    return volume
