"""A map and what it shows as DICOM beside the series that they are of: a parametric map, and a segmentation.

DICOM asks that both say whose they are, as the series does: patient and study are copied from its headers. Needs
highdicom (symnorm_jax[dicom]).
"""

import importlib.util
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from symnorm_jax.data.sources import dicom
from symnorm_jax.data.sources.dicom_slices import is_dicom, whole_header
from symnorm_jax.data.volumes import Scan, turned
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.files import whole
from symnorm_jax.geometry import AXIAL, voxel_sizes
from symnorm_jax.inference.scorer import Result

NEEDED = ("StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID")
MAY_BE_EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")  # and in truth are at times left out
MAY_BE_EMPTY += ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")
SERIES = {"lesions": 9001, "map": 9002}  # their numbers


def check(scans: list[Scan]) -> None:
    """Raise ConfigError without highdicom, and ScanError for a scan from which no DICOM can be derived."""
    if importlib.util.find_spec("highdicom") is None:
        raise ConfigError("--dicom needs highdicom, which is missing; pip install 'symnorm_jax[dicom]' gets it.")
    for scan in scans:
        if not is_dicom(Path(scan.files[0])):
            raise ScanError(f"--dicom: {scan.name} is no DICOM series; what is derived names the images that it is of.")
        header = whole_header(scan.files[0])
        if lost := [tag for tag in NEEDED if not header.get(tag)]:
            raise ScanError(f"--dicom: the headers of {scan.name} lack {lost[0]}, which what is derived must name.")


def write(result: Result, files: Sequence[str], segmentation: Path, parametric: Path, made_of: str) -> None:
    """Write the lesions and the map of a series of `files`, frame for frame on its slices.

    What is `made_of` the same has the same identifiers. Raises ScanError for headers that lack what DICOM asks for.
    """
    folder, face, unit = Path(files[0]).parent, result.about["brain_from"] == "head", result.about["map"]["unit"]
    slices, affine = dicom.placed(str(folder), tuple(files))
    headers = [_header(one.path, voxel_sizes(affine)[AXIAL]) for one in slices]
    lesions, map = (_frames(image, affine) for image in (result.lesions, result.map))
    about = partial(_about, made_of, result.about["model"])
    try:
        with warnings.catch_warnings(action="ignore"):  # they may quote a header
            made = {
                segmentation: _segmentation(headers, (lesions > 0).astype(np.uint8), about("lesions")),
                parametric: _parametric(headers, map.astype(np.float32), unit, face, about("map")),
            }
    except (AttributeError, KeyError, ValueError) as error:
        lacking = f"its headers lack what DICOM asks of derived images ({type(error).__name__})"
        raise ScanError(f"{folder}: {lacking}; score it without --dicom.") from None
    for path, one in made.items():
        with whole(path) as unfinished:
            one.save_as(unfinished)


def _header(path: str, distance: float):
    """Read a header, and fill in what it lacks: blanks and, for the thickness, the `distance` of slices in mm."""
    header = whole_header(path)
    for tag in MAY_BE_EMPTY:
        header.setdefault(tag, "")
    header.SliceThickness = header.get("SliceThickness") or round(float(distance), 6)
    return header


def _frames(image, affine: np.ndarray) -> np.ndarray:
    """Lay an image on the slices of a series, whose `affine` is of (column, row, slice): `[K, rows, columns]`."""
    return np.ascontiguousarray(turned(np.asarray(image.dataobj), image.affine, affine).T)


def _segmentation(headers: list, pixels: np.ndarray, about: dict):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    by = hd.AlgorithmIdentificationSequence("symnorm_jax", codes.DCM.ArtificialIntelligence, version("symnorm_jax"))
    kind = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion
    of = hd.seg.SegmentDescription(1, "beyond the threshold of the map", *kind, "AUTOMATIC", by)
    return hd.seg.Segmentation(headers, pixels, "BINARY", [of], omit_empty_frames=bool(pixels.any()), **about)


def _parametric(headers: list, pixels: np.ndarray, unit: str, face: bool, about: dict):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    told, ends = (unit.split()[-1], f"in {unit}"), (float(pixels.min()), float(pixels.max()))
    scale = hd.pm.RealWorldValueMapping(*told, codes.UCUM.NoUnits, ends, slope=1.0, intercept=0.0)
    window = hd.VOILUTTransformation(window_center=0.0, window_width=2 * max(map(abs, ends)) or 1.0)
    about |= {"voi_lut_transformations": [window]}
    about |= {"contains_recognizable_visual_features": face, "real_world_value_mappings": [scale]}
    return hd.pm.ParametricMap(headers, pixels, **about)


def _about(made_of: str, model: str, what: str) -> dict:
    """Say what made it, and give it identifiers that the same files and model have again."""
    from pydicom.uid import generate_uid

    seeds = [what, made_of, ours := version("symnorm_jax")]
    return {
        "series_instance_uid": generate_uid(entropy_srcs=["series", *seeds]),
        "sop_instance_uid": generate_uid(entropy_srcs=["instance", *seeds]),
        **{"series_number": SERIES[what], "instance_number": 1, "software_versions": ours},
        **{"manufacturer": "symnorm_jax", "manufacturer_model_name": "symnorm", "device_serial_number": model},
        **{"content_label": what.upper(), "content_description": "Research use only; not for diagnosis"},
    }
