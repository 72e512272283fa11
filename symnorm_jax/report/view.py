"""Scored scans as pages that ask no network: `view.html` of one, its brain in three planes, and `index.html` of many.

The viewer is niivue (https://github.com/niivue/niivue), which the page holds beside its data. A content security
policy lets a page run its own scripts and no others, and fetch nothing.
"""

import base64
import gzip
import hashlib
import os
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from markupsafe import Markup

from symnorm_jax.files import read_json, whole, write_text
from symnorm_jax.report.planes import brain_of, embedded, still_of
from symnorm_jax.report.table import Table, template

HERE = Path(__file__).parent
BUTTONS = 12  # of blobs, the strongest
NO_MAP = {"kind": "signed", "threshold": None}


def write_view(path: Path, scan, mask, map, about: dict[str, Any]) -> None:
    """Write the page of a scan to `path` and, beside it as `.png`, the axial slice of its highest score.

    `scan`, its brain `mask` and `map` are nibabel images on one grid, `map` perhaps None; what lies outside the mask
    is not written, nor what the map shows in the sign in which no lesion is expected. `about` is the content of
    `score.json`. Raises ScanError where grids differ or the mask is empty.
    """
    of_map = about["map"] or NO_MAP
    brain, threshold = brain_of(scan, mask, map, of_map["kind"]), of_map["threshold"]
    blobs = sorted(about["blobs"], key=lambda blob: -blob["peak"])[:BUTTONS]
    volume = len(about["slices"]) == 1  # whose centre may miss what is marked
    still = still_of(brain, threshold, blobs[0]["peak_mm"] if volume and blobs else about["worst_slice"]["centre_mm"])
    volumes, factors = embedded(brain)
    data = volumes | {"strongest": brain.strongest, "threshold": threshold}
    data |= {"peaks": [blob["peak_mm"] for blob in blobs]}
    more = {"about": about, "blobs": blobs, "factors": factors, "still": _address(still), "data": data}
    more |= {"quality": _quality(about["quality"]), "licence": _text("niivue/LICENSE.niivue")}
    page = _page("view.html.jinja", _niivue(), _text("view.js"), **more)
    with whole(path.with_suffix(".png")) as unfinished:
        unfinished.write_bytes(still)
    write_text(path, page)


def write_index(path: Path, rows: Collection[dict[str, Any]], excluded: Collection[dict[str, str]]) -> None:
    """Write the page of all scans to `path`, the highest score first.

    `rows` are those of `scores.tsv`, each with `view`, the path of its page, below the folder of `path`, or None;
    `excluded` are those of `excluded.tsv`.
    """
    ordered = sorted(rows, key=lambda row: -np.nan_to_num(row["score"], nan=-np.inf))
    shown = [row | _linked(row["view"], path.parent) for row in ordered]
    write_text(path, _page("index.html.jinja", _text("index.js"), rows=shown, excluded=excluded))


def views_of(folder: Path, chosen: pd.DataFrame, table: pd.DataFrame, name: str) -> dict[str, str]:
    """Find the pages of the samples `chosen`, `{what is shown: link}` as seen from beside the `folder` they lie in.

    A page is that of a scan where all slices have the score `name` that they have in the run's `table`: the scan is as
    it was, and so are brain and model.
    """
    found = {}
    for path in sorted(folder.glob("*/score.json")):
        about, view = read_json(path), path.with_name("view.html")
        own, cases = (x[(x.patient == about["patient"]) & (x.session == about["session"])] for x in (table, chosen))
        scores = own.slice.map({one["slice"]: one["score"] for one in about["slices"]}).astype(float)
        if view.exists() and about["score_name"] == name and np.allclose(scores, own[name], rtol=1e-3):
            link = quote(os.path.relpath(view, folder.parent))
            found |= {f"{case.shown}: {case.patient}": link for case in cases.itertuples()}
    return found


def _linked(view: Path | None, folder: Path) -> dict[str, str | None]:
    """Give the link to a page, which no name can lead out of the folder, and its picture, where they are there."""
    still = view and view.with_suffix(".png")
    link = view and quote(os.path.relpath(view, folder))
    return {"link": link, "still": _address(still.read_bytes()) if still and still.exists() else None}


def _page(name: str, *scripts: str, **more) -> str:
    """Fill a template, with the policy by which it runs these scripts alone."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
    policy += "base-uri 'none'; form-action 'none'"
    return template(name).render(policy=policy, scripts=list(map(Markup, scripts)), **more)


@cache
def _niivue() -> str:
    return gzip.decompress((HERE / "niivue" / "niivue.umd.js.gz").read_bytes()).decode()


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _quality(found: dict[str, dict]) -> Table:
    rows = [[name.replace("_", " "), of["value"], of["low"], of["high"]] for name, of in found.items()]
    return Table("The scan beside those of training", ["measure", "here", "at least", "at most"], rows)
