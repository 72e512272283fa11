"""Contradictions of stacks of pictures and of DICOM series; see `scans_contradictions`."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from scans_contradictions import of

# Stacks of pictures.


def middle(paths) -> Path:
    return paths[len(paths) // 2]


def repaint(path: Path, function) -> None:
    with Image.open(path) as image:
        rows = np.array(image)
    Image.fromarray(function(rows)).save(path)


@of("slices", "drawn")
def a_coloured_picture(rng, release, paths):
    def paint(rows):
        rows = rows if rows.ndim == 3 else np.stack([rows] * 3, -1)
        rows[rows.shape[0] // 2 :, :, 1] = 255 - rows[rows.shape[0] // 2 :, :, 1]
        return rows

    repaint(middle(paths), paint)


@of("colours", "slices", "drawn")
def several_pages(rng, release, paths):
    with Image.open(middle(paths)) as image:
        image.load()
    image.save(middle(paths), format="TIFF", save_all=True, append_images=[image.rotate(180)] * 3)


@of("colours", "slices", "drawn")
def another_size(rng, release, paths):
    repaint(middle(paths), lambda rows: rows[:-2])


@of("colours", "slices", "drawn")
def another_mode(rng, release, paths):
    with Image.open(middle(paths)) as image:
        other = image.convert(str(rng.choice(["RGBA", "P", "I", "LA", "CMYK"])))
    other.save(middle(paths), format="TIFF")


@of("colours", "slices", "drawn")
def half_a_picture(rng, release, paths):
    middle(paths).write_bytes(middle(paths).read_bytes()[: middle(paths).stat().st_size // 2])


@of("colours", "slices")
def all_of_one_value(rng, release, paths):
    for path in paths:
        repaint(path, lambda rows: np.full_like(rows, 9))


@of("colours", "slices")
def a_slice_missing(rng, release, paths):
    number = int(rng.integers(1, len(paths) - 1))
    for of_slices in (paths, release.parts.get("drawn", paths[:0])):
        for path in of_slices[number : number + 1]:
            path.unlink()


@of("drawn")
def a_mask_missing(rng, release, paths):
    middle(paths).unlink()


@of("colours", "slices")
def a_number_twice(rng, release, paths):
    for chosen in (paths, release.parts.get("drawn", [])):
        for path in chosen[3:4]:
            stem = path.stem.removesuffix("_mask")
            start = stem.rstrip("0123456789")
            new = f"{start}0{stem[len(start) :]}{'_mask' * path.stem.endswith('_mask')}{path.suffix}"
            shutil.copy(path, path.with_name(new))


@of("colours", "slices", "drawn")
def a_picture_that_is_no_slice(rng, release, paths):
    shutil.copy(
        middle(paths), paths[0].with_name(str(rng.choice(["overview", "copy of 3", "scan_1a"])) + paths[0].suffix)
    )


@of("slices")
def files_without_content(rng, release, paths):
    for path in paths:
        path.write_bytes(b"")


@of("drawn")
def three_greys(rng, release, paths):
    for path in paths:
        repaint(path, lambda rows: np.where(rows > 0, np.resize([90, 180, 255], rows.shape), 0).astype(np.uint8))


@of("drawn")
def blurred(rng, release, paths):
    for path in paths:
        repaint(path, lambda rows: ((rows > 0) * 200.0 + (np.roll(rows, 1, 0) > 0) * 55).astype(np.uint8))


@of("drawn")
def black_for_white(rng, release, paths):
    for path in paths:
        repaint(path, lambda rows: (255 * (rows == 0)).astype(np.uint8))


@of("drawn")
def all_white(rng, release, paths):
    for path in paths:
        repaint(path, lambda rows: np.full_like(rows, 255))


@of("drawn")
def all_black(rng, release, paths):
    for path in paths:
        repaint(path, np.zeros_like)


@of("slices", sources=("adni",))
def a_person_in_two_folders(rng, release, paths):
    for name in ("AD", "NC", "CN"):
        folder = paths[0].parents[1] / name
        if folder != paths[0].parent:
            folder.mkdir(exist_ok=True)
            return [*paths, Path(shutil.copy(paths[3], folder))]


# DICOM series.


def retouch(paths, change) -> None:
    import pydicom

    for path in paths:
        one = pydicom.dcmread(path)
        change(one)
        one.save_as(path)


def slice_(function):
    """Enter a function of (rng, dataset) that changes one slice of a series."""

    def changed(rng, release, paths):
        retouch([paths[len(paths) // 2]], lambda one: function(rng, one))

    changed.__name__ = function.__name__
    of("series")(changed)
    return function


@of("series")
def padding(rng, release, paths):
    def pad(one):
        pixels = one.pixel_array.copy()
        rim = pixels[:, :2]
        rim[(rim * float(one.RescaleSlope) - 5) == 0] = -2000
        one.PixelPaddingValue, one.PixelData = -2000, pixels.astype("<i2").tobytes()
        one["PixelPaddingValue"].VR = "SS"

    retouch(paths, pad)


@of("series")
def a_slice_missing_in_a_series(rng, release, paths):
    paths[int(rng.integers(0, len(paths) - 1))].unlink()


@of("series")
def a_slice_twice(rng, release, paths):
    shutil.copy(paths[3], paths[3].with_name("IM9999"))


@of("series")
def a_file_without_its_preamble(rng, release, paths):
    file = middle(paths)
    data = file.read_bytes()[132:]
    file.write_bytes(data if rng.random() < 0.5 else bytes(132) + data)


@of("series")
def a_slice_with_an_ending_of_its_own(rng, release, paths):
    middle(paths).rename(middle(paths).with_suffix(str(rng.choice([".dcm", ".bak", ".1"]))))


@of("series")
def half_a_slice(rng, release, paths):
    middle(paths).write_bytes(middle(paths).read_bytes()[: middle(paths).stat().st_size // 2])


@slice_
def another_series(rng, one):
    one.SeriesInstanceUID = f"{one.SeriesInstanceUID[:-2]}.9"


@slice_
def another_spacing(rng, one):
    one.PixelSpacing = [float(one.PixelSpacing[0]) * 1.1, float(one.PixelSpacing[1])]


@slice_
def another_direction(rng, one):
    one.ImageOrientationPatient = [*one.ImageOrientationPatient[3:], *one.ImageOrientationPatient[:3]]


@slice_
def a_slice_off_the_normal(rng, one):
    along = np.array(one.ImageOrientationPatient[:3], float)
    one.ImagePositionPatient = (np.array(one.ImagePositionPatient, float) + 3 * along).tolist()


@slice_
def no_position(rng, one):
    del one[str(rng.choice(["ImagePositionPatient", "PixelSpacing", "ImageOrientationPatient", "Rows"]))]


@slice_
def bright_for_dark(rng, one):
    one.PhotometricInterpretation = "MONOCHROME1"


@slice_
def a_slope_of_no_use(rng, one):
    one.RescaleSlope = str(rng.choice(["0", "1e30", "-1"]))


@slice_
def no_slope(rng, one):
    del one.RescaleSlope, one.RescaleIntercept


@slice_
def more_rows_than_there_are(rng, one):
    one.Rows += 3


@slice_
def many_frames(rng, one):
    one.NumberOfFrames = 3
