"""Pages of scored scans: nothing but the brain in them, nothing fetched, no name that runs, places where they are."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest

from symnorm_jax.data.volumes import to_ras
from symnorm_jax.errors import ScanError
from symnorm_jax.report import planes
from symnorm_jax.report.view import write_index, write_view

BAD = '"><img src=x onerror="document.title=1"><script>document.title=2</script></script><!--'
TILT = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
TURNED = np.block([[TILT * [1.5, 1.9, 1.8], np.array([[-20], [30], [12]])], [np.zeros(3), 1]])  # stored as P, I, R
PEAK = (12, 9, 14)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("headless", "no-sandbox", "use-angle=swiftshader", "enable-unsafe-swiftshader", "enable-logging=stderr")
FLAGS += ("host-resolver-rules=MAP * ~NOTFOUND", "virtual-time-budget=5000", "dump-dom", "window-size=480,480")


def images(shape=(24, 20, 28)):
    """A head that is bright outside its brain, the mask of the brain, and a map with one peak."""
    mask, rng = np.zeros(shape, np.uint8), np.random.default_rng(0)
    mask[6:18, 4:15, 7:22] = 1
    head, map = rng.uniform(50, 100, shape).astype(np.float32), rng.normal(0, 1, shape).astype(np.float32)
    head[mask == 0] = 1000
    map[PEAK] = -9.25
    return [nib.Nifti1Image(x, TURNED) for x in (head, mask, map)]


def about(**changes):
    place = (TURNED @ [*PEAK, 1])[:3].tolist()
    blobs = [{"label": 1, "ml": 3.0, "peak": 4.0, "peak_mm": [0, 0, 0]}]
    blobs += [{"label": 2, "ml": 1.0, "peak": 9.25, "peak_mm": place}]
    said = {"verdict": "unknown", "reasons": [BAD], "score": 2.5, "score_name": "mse", "percentile": 75.0}
    said |= {"source": "/somewhere/annabel.nii", "patient": "annabel"}
    said |= {
        "id": BAD,
        "healthy_people": 12,
        "flag": "annabel.nii: tilted",
        "worst_slice": {"centre_mm": place},
        "slices": [{}, {}],
        "blobs": blobs,
    }
    said |= {"map": {"kind": "absolute", "unit": "healthy residuals", "threshold": 3.0}, "brain_from": "file"}
    said |= {"rule": {"name": "roc", "level": "patient", "threshold": 2.0, "promise": "none"}}
    return said | {"quality": {"brain_ml": {"value": 1.0, "low": 2.0, "high": None}}} | changes


class Parts(HTMLParser):
    """What a browser makes of a page: its tags, and the scripts by type."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.inside = [], {}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = dict(attributes).get("type", "run") if tag == "script" else None

    def handle_data(self, data):
        if self.inside:
            self.scripts.setdefault(self.inside, []).append(data)

    def handle_endtag(self, tag):
        self.inside = None


@pytest.fixture
def view(tmp_path):
    write_view(tmp_path / "view.html", *images(), about())
    return tmp_path / "view.html"


def held(page, key):
    data = json.loads(Parts(page).scripts["application/json"][0])
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data[key])))


def test_nothing_outside_the_brain_is_in_a_page_and_what_is_in_it_lies_where_it_was(view):
    scan, mask, map = images()
    page = view.read_text()
    grey, over = held(page, "scan"), held(page, "over")
    shown, affine = to_ras(np.asarray(map.dataobj) * np.asarray(mask.dataobj), map.affine)
    within = to_ras(np.asarray(mask.dataobj), map.affine)[0]
    corner = (np.linalg.inv(affine) @ over.affine)[:3, 3].round().astype(int)
    box = tuple(slice(start, start + size) for start, size in zip(corner, over.shape, strict=True))
    assert over.shape == grey.shape and within[box].sum() == within.sum() and within[box].size < within.size
    assert not np.asarray(grey.dataobj)[within[box] == 0].any()
    assert np.asarray(grey.dataobj).max() == 255 and np.median(np.asarray(grey.dataobj)[within[box] == 1]) < 250
    np.testing.assert_allclose(over.get_fdata(), shown[box], atol=9.25 / planes.STEPS)
    voxel = np.linalg.inv(over.affine) @ TURNED @ [*PEAK, 1]
    assert over.get_fdata()[tuple(voxel[:3].round().astype(int))] == pytest.approx(-9.25)


def test_no_text_of_a_scan_becomes_a_tag_and_the_policy_names_the_scripts_of_the_page(view):
    parts = Parts(view.read_text())
    assert [name for name, _ in parts.tags].count("img") == 1 and not any("onerror" in of for _, of in parts.tags)
    policy = next(of["content"] for name, of in parts.tags if name == "meta" and "http-equiv" in of)
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "://" not in policy
    assert re.findall("'sha256-(.*?)'", policy) == list(map(summed, parts.scripts["run"]))
    own = view.read_text().replace(parts.scripts["run"][0], "")
    assert "://" not in own and "annabel" not in own and "Copyright (c) 2021, Niivue" in own
    assert "Research use only. Not a medical device" in own


def test_blobs_are_offered_strongest_first(view):
    parts = Parts(view.read_text())
    peaks = json.loads(parts.scripts["application/json"][0])["peaks"]
    assert peaks == [about()["blobs"][1]["peak_mm"], [0, 0, 0]]
    assert [of["data-blob"] for _, of in parts.tags if "data-blob" in of] == ["0", "1"]


def test_the_picture_of_a_volume_is_of_its_strongest_blob(tmp_path):
    """Slices have their worst; a volume is one sample, whose centre may miss what is marked."""
    stills = []
    for name, centre, slices in (("a", [0, 0, 0], [{}]), ("b", [0, 0, 0], [{}, {}]), ("c", None, [{}, {}])):
        said = about(slices=slices, **({"worst_slice": {"centre_mm": centre}} if centre else {}))
        write_view(tmp_path / f"{name}.html", *images(), said)
        stills.append((tmp_path / f"{name}.png").read_bytes())
    assert stills[0] == stills[2] != stills[1]


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("positive", 0, 4.5), ("negative", -9.25, 0), ("signed", -9.25, 4.5)]
)
def test_a_page_shows_the_sign_in_which_a_lesion_is_expected(tmp_path, kind, low, high):
    scan, mask, map = images()
    map.dataobj[9, 9, 9] = 4.5
    write_view(tmp_path / "view.html", scan, mask, map, about(map=about()["map"] | {"kind": kind}))
    page = (tmp_path / "view.html").read_text()
    over = held(page, "over").get_fdata()
    assert (over.min(), over.max()) == pytest.approx((low, high), abs=9.25 / planes.STEPS)
    swatches = [of["class"] for _, of in Parts(page).tags if "swatch" in of.get("class", "")]
    assert swatches == ["swatch above"] * (high > 0) + ["swatch below"] * (low < 0)


def test_a_page_speaks_of_residuals_where_the_map_is_in_them(tmp_path, view):
    of_volume = {"kind": "positive", "unit": "values of saca", "threshold": 3.0}
    write_view(tmp_path / "volume.html", *images(), about(map=of_volume))
    page = (tmp_path / "volume.html").read_text()
    assert page.count("in values of saca") == 2 and "half-way up the volume" in page and "made from the volume" in page
    assert "residuals" not in page and "above what is normal" not in page and "slice of the highest score" not in page
    assert view.read_text().count("in healthy residuals") == 2


def test_a_page_that_shows_a_face_says_so(tmp_path, view):
    write_view(tmp_path / "head.html", *images(), about(brain_from="head"))
    assert ["with its face" in (tmp_path / name).read_text() for name in ("head.html", "view.html")] == [True, False]


def test_a_large_scan_is_coarsened_until_it_fits_and_its_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(planes, "LIMIT", 4000)
    write_view(tmp_path / "view.html", *images(), about())
    page = (tmp_path / "view.html").read_text()
    data = json.loads(Parts(page).scripts["application/json"][0])
    over = held(page, "over")
    assert len(data["scan"]) + len(data["over"]) <= 4000 and "voxels are drawn as one" in page
    assert abs(over.get_fdata()).max() == pytest.approx(9.25)  # no peak is averaged away
    voxel = (np.linalg.inv(over.affine) @ TURNED @ [*PEAK, 1])[:3]
    assert over.get_fdata()[tuple(voxel.round().astype(int))] == pytest.approx(-9.25)


def test_images_of_another_grid_and_empty_masks_are_refused(tmp_path):
    scan, mask, map = images()
    moved, empty = nib.Nifti1Image(map.dataobj, np.eye(4)), nib.Nifti1Image(mask.dataobj * 0, TURNED)
    with pytest.raises(ScanError, match="does not lie on the grid"):
        write_view(tmp_path / "view.html", scan, mask, moved, about())
    with pytest.raises(ScanError, match="empty"):
        write_view(tmp_path / "view.html", scan, empty, map, about())
    assert not list(tmp_path.iterdir())


def rows(view):
    row = {"verdict": "normal", "percentile": float("nan"), "blobs": 0, "blobs_ml": 0.0, "reason": "", "view": None}
    named = view.rename(view.parent / 'a "#?.html'), view.with_suffix(".png").rename(view.parent / 'a "#?.png')
    return [row | {"id": "low", "score": 9.5}, row | {"id": BAD, "score": 10.0, "reason": BAD, "view": named[0]}]


def test_an_index_has_the_highest_score_first_its_picture_and_who_was_left_out(view):
    write_index(view.parent / "index.html", rows(view), [{"patient": BAD, "session": "", "reason": "it is flat"}])
    page = (view.parent / "index.html").read_text()
    parts = Parts(page)
    assert [name for name, _ in parts.tags].count("img") == 1 and len(parts.scripts["run"]) == 1
    assert {of["href"] for name, of in parts.tags if name == "a"} == {"a%20%22%23%3F.html"}
    assert [of["data-value"] for _, of in parts.tags if "data-value" in of][2::7] == ["10.0", "9.5"]
    assert "it is flat" in page and "://" not in page


def summed(script):
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def browsed(page, folder, then):
    """What a browser without a network makes of a page, once the script `then` has run in it; it must not complain."""
    if not CHROMIUM:
        pytest.skip("no chromium here")
    page = page.replace("script-src ", f"script-src 'sha256-{summed(then)}' ", 1)
    (folder / "shown.html").write_text(page.removesuffix("</body>\n</html>\n") + f"<script>{then}</script>")
    command = [CHROMIUM, *(f"--{flag}" for flag in FLAGS), f"--user-data-dir={folder}/profile"]
    command += [(folder / "shown.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]  # as of what the policy forbids
    return done.stdout


def test_a_browser_without_a_network_goes_to_the_strongest_blob_then_to_that_of_a_button(view):
    then = """new MutationObserver((_, watch) => {
      watch.disconnect();
      document.querySelector(".note").textContent = document.querySelector("#place").textContent;
      document.querySelector("[data-blob='1']").click();
    }).observe(document.querySelector("#place"), {childList: true});"""
    shown = browsed(view.read_text(), view.parent, then)
    first, second = (re.search(f'{of}".*?>(.*?)<', shown)[1] for of in ('class="note', 'id="place'))
    x, y, z = about()["blobs"][1]["peak_mm"]
    assert first == f"right {x:.1f}, anterior {y:.1f}, inferior {-z:.1f} mm; map -9.25"
    assert [abs(float(one)) for one in re.findall(" ([0-9.]+)[, ]", second)] == pytest.approx([0, 0, 0], abs=1)
    assert f"<title>{BAD}: unknown</title>" in unescape(shown) and '<figure id="still" hidden' in shown


def test_a_column_sorts_its_table_by_value(view):
    write_index(view.parent / "index.html", rows(view), [])
    page = (view.parent / "index.html").read_text()
    shown = browsed(page, view.parent, "document.querySelectorAll('#scans button')[2].click()")
    assert [re.findall('data-value="(9.5|10.0)"', one) for one in (page, shown)] == [["10.0", "9.5"], ["9.5", "10.0"]]
