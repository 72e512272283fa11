"""Contradictions of tables; see `scans_contradictions`."""

import csv
import io
import shutil
import unicodedata
from pathlib import Path

from scans_contradictions import of

KEYS = {"table": "label", "dicom": "label", "bids": "group", "oasis": "CDR"}  # columns that say who is ill
FILED = ("table", "dicom")
STANDING = (*FILED, "bids", "oasis", "adni")


def rows_of(path: Path) -> tuple[list[list[str]], str]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    return list(
        csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), delimiter=delimiter)
    ), delimiter


def store(path: Path, rows: list[list[str]], delimiter: str, encoding: str = "utf-8") -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


def table(*sources: str):
    """Enter a function of (rng, release, rows) that changes the rows of a table, the header first, in place."""

    def enter(function):
        def changed(rng, release, paths):
            rows, delimiter = rows_of(paths[0])
            also = function(rng, release, rows) or []
            store(paths[0], rows, delimiter)
            return [*paths, *also]

        changed.__name__ = function.__name__
        of("table", sources=sources)(changed)
        return function

    return enter


def key_of(release, rows) -> int:
    name = KEYS.get(release.source) or next(one for one in ("Group", "diagnosis") if one in rows[0])
    return rows[0].index(name)


def other(release, value: str) -> str:
    """A standing other than that of an ill person."""
    words = {"table": "healthy", "dicom": "healthy", "bids": "Control", "oasis": "0", "adni": "CN"}
    return words[release.source]


@table(*STANDING)
def a_row_twice_with_another_standing(rng, release, rows):
    if "participant_id" not in rows[0] or release.options.get("layout") != "slices":
        place = key_of(release, rows)
        again = [*rows[-1]]
        again[place] = other(release, again[place])
        rows.insert(int(rng.integers(1, len(rows) + 1)), again)


@table(*STANDING, "ixi")
def a_row_twice(rng, release, rows):
    rows.append(rows[-1])


@table(*STANDING, "ixi")
def a_column_twice(rng, release, rows):
    place = int(rng.integers(len(rows[0])))
    rows[0].append(rows[0][place])
    for row in rows[1:]:
        row.append(rows[1][place])


@table("bids")
def one_id_written_in_two_ways(rng, release, rows):
    again = [*rows[1]]
    plain = again[0].removeprefix("sub-")
    forms = {f"{sub}{unicodedata.normalize(form, plain)}" for sub in ("", "sub-") for form in ("NFC", "NFD")} - {
        again[0]
    }
    again[0], again[2] = sorted(forms)[rng.integers(len(forms))], "stroke"
    rows.append(again)


@table("bids", "oasis", "adni")
def a_row_missing(rng, release, rows):
    del rows[-1]


@table("bids")
def an_id_in_another_case(rng, release, rows):
    rows[1][0] = rows[1][0].upper()


@table("bids")
def no_id(rng, release, rows):
    rows[1][0] = str(rng.choice(["n/a", ""]))


@table("bids", "oasis", "adni", *FILED)
def columns_in_another_case(rng, release, rows):
    rows[0] = [name.upper() if rng.random() < 0.5 else name.capitalize() for name in rows[0]]


@table(*FILED)
def a_mask_column_in_another_form(rng, release, rows):
    name = str(rng.choice(["lesion_path", "brain_path"]))
    forms = [name.upper(), name.title(), name.replace("_", " "), name.replace("_", ""), name.replace("_", "-")]
    if name in rows[0]:
        rows[0][rows[0].index(name)] = str(rng.choice(forms))


@table(*FILED)
def masks_in_an_unknown_column(rng, release, rows):
    rows[0][rows[0].index("lesion_path")] = str(rng.choice(["mask", "annotation", "lesion", "lesion_file", "truth"]))


@table(*FILED)
def lesion_and_brain_exchanged(rng, release, rows):
    places = [rows[0].index(name) for name in ("lesion_path", "brain_path") if name in rows[0]]
    if len(places) == 2:
        rows[-1][places[0]], rows[-1][places[1]] = rows[-1][places[1]], rows[-1][places[0]]


@table(*FILED)
def one_file_in_two_columns(rng, release, rows):
    places = [rows[0].index(name) for name in ("lesion_path", "brain_path", "path") if name in rows[0]]
    first, second = rng.permutation(places)[:2]
    rows[-1][first] = rows[-1][second]


@table(*FILED)
def a_healthy_person_with_a_lesion(rng, release, rows):
    rows[-1][key_of(release, rows)] = "healthy"


@table(*STANDING)
def an_unknown_standing(rng, release, rows):
    if release.options.get("layout") != "slices" and release.source != "bids":
        rows[-1][key_of(release, rows)] = {"oasis": "4"}.get(release.source, "sick")


@table(*FILED)
def one_person_in_two_ways(rng, release, rows):
    again, base = [*rows[-1]], release.root if release.root.is_dir() else release.root.parent
    file = base / again[0]
    copy = file.with_name(f"again {file.name}")
    shutil.copytree(file, copy) if file.is_dir() else shutil.copy(file, copy)
    forms = [unicodedata.normalize("NFD", again[1]), unicodedata.normalize("NFC", again[1]), again[1].upper()]
    again[:2] = str(copy.relative_to(base)), str(rng.choice(forms))
    rows.append(again)


@table(*FILED)
def too_many_cells(rng, release, rows):
    rows[-1].append("one more")


@table(*STANDING)
def too_few_cells(rng, release, rows):
    del rows[-1][2:]


@table(*FILED)
def nobody(rng, release, rows):
    rows[-1][1] = " "


@of("table", sources=(*STANDING, "ixi"))
def another_delimiter(rng, release, paths):
    rows, delimiter = rows_of(paths[0])
    store(paths[0], rows, ";" if delimiter == "," else ",")


@of("table", sources=(*STANDING, "ixi"))
def another_encoding(rng, release, paths):
    rows, delimiter = rows_of(paths[0])
    store(paths[0], rows, delimiter, rng.choice(["utf-16", "utf-32"]))


@of("table", sources=(*STANDING, "ixi"))
def a_quotation_mark_that_does_not_close(rng, release, paths):
    data = paths[0].read_bytes()
    paths[0].write_bytes(data.replace(b"\n", b'\n"', 1) if rng.random() < 0.5 else b'"' + data)


@of("table", sources=(*STANDING, "ixi"))
def no_table(rng, release, paths):
    paths[0].unlink()


@table("table")
def a_spacing_of_no_use(rng, release, rows):
    if "spacing_mm" in rows[0]:
        wrong = ["8,8", "8,8,-8", "0,8,8", "8;8;8", "8 mm,8 mm,8 mm", "", "nan,8,8", "8,8,800"]
        rows[-1][rows[0].index("spacing_mm")] = str(rng.choice(wrong))
