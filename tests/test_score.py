"""Scans scored by a finished run and by its model: the run's own numbers, honest verdicts, and nothing half done."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import layouts_lesion
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from commands import symnorm

import symnorm_jax
from symnorm_jax.data.finding import find_scans
from symnorm_jax.data.volumes import write_nifti
from symnorm_jax.evaluation.cases import AGGREGATES, patient_cases
from symnorm_jax.files import load_arrays, locked
from symnorm_jax.inference import blobs, cohort, distil, model, quality, verdict
from symnorm_jax.inference.reading import prepared, scans_of
from symnorm_jax.inference.scorer import Scorer
from symnorm_jax.report.view import BUTTONS
from symnorm_jax.run import Run
from symnorm_jax.scoring.scores import ABOUT

PEOPLE = 4  # of the test split
BIDS_KNOWS = ("_dseg.nii.gz", "_mask.nii.gz", "README.md", "dataset_description.json", "_mask.json", "_dseg.json")


@pytest.fixture(scope="module")
def judged(demo_run: Run) -> list[str]:
    rows = demo_run.manifest
    return sorted(rows.patient[rows.split == "test"].unique())[-PEOPLE:]


@pytest.fixture(scope="module")
def scans(demo_run: Run, judged, tmp_path_factory) -> Path:
    """Test people of the demo as somebody's files, with a manifest."""
    folder, lines = tmp_path_factory.mktemp("own"), ["path,patient,brain_path"]
    for scan in find_scans(demo_run.config.data):
        if scan.patient in judged:
            volume, name = scan.load(), f"{scan.patient}.nii.gz"
            write_nifti(folder / "scans" / name, volume.voxels, volume.affine, "LPS")
            write_nifti(folder / "mask" / name, volume.brain.astype(np.uint8), volume.affine, "LPS")
            lines.append(f"scans/{name},{scan.patient},mask/{name}")
    (folder / "scans.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def learned(demo_run: Run) -> model.Model:
    return distil.of_run(demo_run.workdir)


@pytest.fixture(scope="module")
def scorer(learned) -> Scorer:
    return Scorer(learned)


@pytest.fixture(scope="module")
def out(scans, demo_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    score(scans / "scans.csv", folder, f"--run={demo_run.workdir}")
    return folder


def score(source: Path, output: Path, *more: str, status: int = 0) -> str:
    done = symnorm("score", "-i", str(source), "-o", str(output), *more)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


def table(output: Path, name: str = "scores.tsv") -> pd.DataFrame:
    return pd.read_csv(output / name, sep="\t", keep_default_na=False)


def contents(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_own_test_people_get_the_scores_of_the_run(out, demo_run, judged):
    own, headline = pd.read_csv(demo_run.workdir / "scores.csv"), demo_run.config.score.headline
    rows = table(out).set_index("patient")
    assert list(rows.index) == judged
    cases = patient_cases(own[[*ABOUT, headline]], "test").set_index("patient")[headline]
    np.testing.assert_allclose(rows.score, cases[judged], rtol=1e-5)
    for patient in judged:
        told, mine = json.loads((out / patient / "score.json").read_text()), own[own.patient == patient]
        assert [one["slice"] for one in told["slices"]] == mine.slice.tolist()
        np.testing.assert_allclose([one["score"] for one in told["slices"]], mine[headline], rtol=1e-5)
        assert told["worst_slice"]["slice"] == mine.slice[mine[headline].idxmax()]


def test_the_map_is_that_of_the_run_carried_to_the_voxels_of_the_scan(out, scans, scorer, demo_run, judged):
    kept = load_arrays(demo_run.workdir / "embeddings" / "test.npz", "index", "map")
    for scan in scans_of(scans / "scans.csv")[:2]:
        made = prepared(scan, scorer.model.config.data, "auto")
        found = scorer.embedder.whole(made.rows, "", held=made.arrays)
        own = demo_run.manifest.patient[kept["index"]].to_numpy() == scan.patient
        np.testing.assert_allclose(found["map"], kept["map"][own], atol=1e-5)
        np.testing.assert_allclose(
            np.abs(scorer.signed(made.rows, found)), kept["map"][own], atol=2e-3, rtol=1e-3
        )  # half precision
        image, map_, brain = (nib.load(path) for path in (scan.files[0], *_images(out / scan.patient)))
        assert map_.shape == image.shape and (map_.affine == image.affine).all() and brain.shape == image.shape
        values, mask = np.asarray(map_.dataobj), np.asarray(brain.dataobj) > 0
        assert values.min() < -1 and values.max() > 1 and not values[~mask].any()
        given = np.asarray(nib.load(scan.extras[0]).dataobj) > 0
        np.testing.assert_array_equal(mask, given)


def _images(folder: Path) -> tuple[Path, Path]:
    return folder / "map.nii.gz", folder / "brain.nii.gz"


def test_a_scan_has_a_page_that_names_no_file_and_the_index_leads_to_it(out, scans, learned, judged):
    for patient in judged:
        page, told = (out / patient / "view.html").read_text(), json.loads((out / patient / "score.json").read_text())
        assert str(scans) in told["source"] and not any(word in page for word in (str(scans), f"{patient}.nii.gz"))
        data = json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', page)[1])
        assert data["threshold"] == told["map"]["threshold"] == blobs.map_threshold(learned)
        assert all(peak in [blob["peak_mm"] for blob in told["blobs"]] for peak in data["peaks"])
        assert len(data["peaks"]) == min(len(told["blobs"]), BUTTONS)
    assert linked(out) == {out / patient / "view.html" for patient in judged}


def linked(output: Path) -> set[Path]:
    """The files of OUT to which its index leads."""
    links = re.findall('href="(.*?)"', (output / "index.html").read_text())
    return {path for link in links if (path := output / unquote(link)).is_file()}


def test_the_exported_model_says_the_same(out, scans, demo_run, tmp_path):
    assert symnorm("export", f"--run={demo_run.workdir}", "-o", str(tmp_path / "model")).returncode == 0
    score(scans / "scans.csv", tmp_path / "out", f"--model={tmp_path / 'model'}")
    assert contents(tmp_path / "out") == contents(out)


def test_blobs_are_what_the_file_of_labels_holds(out, learned, judged):
    fitted = learned.thresholds["pixel"]
    assert blobs.map_threshold(learned) == fitted["dice"]["value"]
    listed = {patient: json.loads((out / patient / "score.json").read_text())["blobs"] for patient in judged}
    assert any(listed.values())
    for patient, told in listed.items():
        labels, map_ = (nib.load(out / patient / name) for name in ("lesions.nii.gz", "map.nii.gz"))
        numbers, values = np.asarray(labels.dataobj), np.abs(np.asarray(map_.dataobj))
        ml = np.prod(labels.header.get_zooms()) / 1000
        assert [one["label"] for one in told] == list(range(1, numbers.max() + 1))
        np.testing.assert_allclose([one["ml"] for one in told], ml * np.bincount(numbers.ravel())[1:], atol=1e-3)
        for one in told:
            assert one["peak"] == pytest.approx(values[numbers == one["label"]].max())
            place = np.linalg.inv(labels.affine) @ [*one["peak_mm"], 1]
            assert numbers[tuple(place[:3].round().astype(int))] == one["label"]


def test_a_second_call_does_nothing_and_a_third_what_is_missing(out, scans, demo_run, tmp_path):
    copy, run = Path(shutil.copytree(out, tmp_path / "out")), f"--run={demo_run.workdir}"
    before = {path: path.stat().st_mtime_ns for path in copy.glob("*/*")}
    score(scans / "scans.csv", copy, run)
    assert before == {path: path.stat().st_mtime_ns for path in copy.glob("*/*")}
    (copy / "index.html").unlink()
    max(copy.glob("*/view.html")).unlink()
    first = min(copy.glob("*/score.json"))
    first.unlink()  # as after kill -9: it is written last
    (first.parent / "map.nii.gz").write_bytes(b"half")
    score(scans / "scans.csv", copy, run, "--jobs=2")
    assert contents(copy) == contents(out)


def test_another_person_of_the_same_name_overwrites_nothing(out, scans, demo_run, tmp_path):
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    patient = table(copy).patient[0]
    other = scans / "other.csv"
    other.write_text(f"path,patient,session,brain_path\nscans/{patient}.nii.gz,phantom,x,mask/{patient}.nii.gz\n")
    (copy / patient).rename(copy / "phantom_x")
    said = score(other, copy, f"--run={demo_run.workdir}", status=1)
    assert f"is of '{patient}', not of 'phantom/x'" in said
    with locked(copy / ".lock"):
        assert "in use by another process" in score(other, copy, f"--run={demo_run.workdir}", status=1)


def test_what_cannot_be_read_stops_nobody_else(scans, demo_run, judged, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    patient = judged[0]
    image = nib.load(scans / "scans" / f"{patient}.nii.gz")
    brain = np.asarray(nib.load(scans / "mask" / f"{patient}.nii.gz").dataobj)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * brain, image.affine), folder / "good.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no image")
    (folder / "lost.nii.gz").symlink_to(tmp_path / "nowhere")
    said = score(folder, tmp_path / "out", f"--run={demo_run.workdir}")
    assert "Research use only" in said.splitlines()[0] and "excluded.tsv: what could not be used" in said
    rows, left_out = table(tmp_path / "out"), table(tmp_path / "out", "excluded.tsv").set_index("patient").reason
    assert rows.patient.tolist() == ["good"] and rows.brain_from.tolist() == ["nonzero"]
    assert set(left_out.index) == {"broken", "lost"} and "cannot be read" in left_out["broken"]
    assert linked(tmp_path / "out") == {tmp_path / "out" / "good" / "view.html"}
    assert "cannot be read" in (tmp_path / "out" / "index.html").read_text()
    (folder / "good.nii.gz").unlink()
    said = score(folder, tmp_path / "none", f"--run={demo_run.workdir}", status=1)
    assert "none of 2 scans could be used" in said and not (tmp_path / "none" / "scores.tsv").exists()


def test_a_bids_tree_gets_derivatives(scans, demo_run, judged, tmp_path):
    for place, patient in enumerate(judged[:2], 1):
        anat, masks = (tmp_path / top / f"sub-0{place}" / "anat" for top in ("bids", "bids/derivatives/bet"))
        for folder, kind, name in ((anat, "scans", "T1w"), (masks, "mask", "desc-brain_mask")):
            folder.mkdir(parents=True)
            shutil.copy(scans / kind / f"{patient}.nii.gz", folder / f"sub-0{place}_acq-x_{name}.nii.gz")
    output, run = tmp_path / "bids" / "derivatives" / "symnorm", f"--run={demo_run.workdir}"
    score(tmp_path / "bids", output, run, "--bids", "--participant-label", "02")
    names = {path.name for path in (output / "sub-02" / "anat").iterdir()}
    kinds = ("map.nii.gz", "dseg.nii.gz", "mask.nii.gz", "score.json", "view.html", "view.png")
    assert names == {f"sub-02_acq-x_desc-symnorm_{kind}" for kind in kinds} and not (output / "sub-01").exists()
    score(tmp_path / "bids", output, run, "--bids")  # own masks are nobody else's
    assert table(output).id.tolist() == ["sub-01_acq-x", "sub-02_acq-x"]
    assert table(output).brain_from.tolist() == ["file", "file"]
    assert {path.name for path in linked(output)} == {f"sub-0{n}_acq-x_desc-symnorm_view.html" for n in (1, 2)}
    assert json.loads((output / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    ignored = (output / ".bidsignore").read_text().split()
    unknown = [path for path in output.rglob("*.*") if not path.name.endswith(BIDS_KNOWS) and path.name[0] != "."]
    assert len(unknown) == 2 + 2 * 4 and all(any(map(path.match, ignored)) for path in unknown)
    assert "no scan of sub-7" in score(tmp_path / "bids", output, run, "--bids", "--participant-label", "7", status=1)


def test_a_series_gets_dicom_beside_its_map_and_loses_it_with_the_map(scans, demo_run, judged, tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="pydicom is optional: pip install 'symnorm_jax[dicom]'")
    pytest.importorskip("highdicom", reason="highdicom is optional: pip install 'symnorm_jax[dicom]'")
    image, mask = (nib.load(scans / kind / f"{judged[0]}.nii.gz") for kind in ("scans", "mask"))
    voxels, step = np.asarray(image.dataobj), [*image.header.get_zooms()]
    (tmp_path / "ann").mkdir()
    for k in range(voxels.shape[2]):
        place = image.affine @ [0, 0, k, 1] * [-1, -1, 1, 1]  # stored as L, P, S
        values = 1000 * voxels[:, :, k].T / voxels.max()
        one = layouts_lesion._slice(values, place[:3], [1, 0, 0, 0, 1, 0], "1.2.3", slope=1)
        one.PixelSpacing, one.StudyInstanceUID, one.FrameOfReferenceUID = [float(step[1]), float(step[0])], "1.2", "1.4"
        one.save_as(tmp_path / "ann" / f"{k}.dcm", enforce_file_format=True)
    given = tmp_path / "ann", tmp_path / "out", f"--run={demo_run.workdir}"
    score(*given, "--dicom", f"--brain={scans / 'mask' / judged[0]}.nii.gz")
    made = tmp_path / "out" / "ann"
    assert json.loads((made / "score.json").read_text())["brain_from"] == "file"
    map_ = np.asarray(nib.load(made / "map.nii.gz").dataobj)
    dicom = pydicom.dcmread(made / "map.dcm")
    heights = [one.PlanePositionSequence[0].ImagePositionPatient[2] for one in dicom.PerFrameFunctionalGroupsSequence]
    np.testing.assert_array_equal(dicom.pixel_array[np.argsort(heights)], map_[::-1, ::-1].T)
    assert (made / "lesions.dcm").exists()
    score(*given, "--brain=head")
    assert (made / "map.nii.gz").exists() and not [*made.glob("*.dcm")]


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_person_is_scored_as_the_evaluation_does(aggregate, learned, demo_run, judged):
    config = learned.config.copy_and_resolve_references()
    config.score.patient = aggregate
    own, headline = pd.read_csv(demo_run.workdir / "scores.csv"), config.score.headline
    expected = patient_cases(own[[*ABOUT, headline]], "test", aggregate, config.score.top_k).set_index("patient")
    for patient in judged:
        slices = own.loc[own.patient == patient, list(ABOUT)].assign(**{headline: own[headline]})
        found = verdict.person_score(slices, learned._replace(config=config))
        assert found == pytest.approx(expected.loc[patient, headline])


def said(slices: pd.DataFrame, learned: model.Model, doubts=(), **fit) -> dict:
    rule = learned.config.score.threshold
    thresholds = learned.thresholds | {"patient": learned.thresholds["patient"] | {rule: fit}}
    return verdict.of_person(slices, {}, list(doubts), learned._replace(thresholds=thresholds))


def test_a_verdict_is_given_where_there_is_no_doubt(learned):
    headline, scores = learned.config.score.headline, learned.reference["scores"]
    most = max(scores["people"])
    slices = pd.DataFrame({"position": [0.2, 0.8], headline: [0.1, 1.2 * most]})
    counts = {"origin": "val", "healthy": 4, "abnormal": 4}
    found = said(slices, learned, value=1.1 * most, **counts)
    assert (found["verdict"], found["percentile"], found["reasons"]) == ("abnormal", 100.0, [])
    assert found["healthy_people"] == len(scores["people"]) > 0 and 0 < found["probability"] < 1
    assert found["rule"]["promise"].startswith("none; it was chosen on 4 healthy and 4 abnormal cases")
    assert said(slices, learned, value=2 * most, **counts)["verdict"] == "normal"
    assert said(slices, learned, ["tilted"], value=1.1 * most, **counts)["verdict"] == "unknown"
    above = slices.assign(**{headline: max(scores["slices"]["score"]) * np.array([1.01, 2])})
    assert said(above, learned, value=1.0, **counts)["reasons"] == [quality.WHOLE]


def test_without_a_threshold_for_people_slices_are_held_against_theirs(learned):
    headline, rule = learned.config.score.headline, learned.config.score.threshold
    slices = pd.DataFrame({"position": [0.5], headline: [1e4]})
    none = {"value": None, "reason": "nobody is healthy", "origin": "val", "healthy": 0, "abnormal": 4}
    used = said(slices, learned, **none)["rule"]
    assert (used["level"], used["threshold"]) == ("sample", learned.thresholds["sample"][rule]["value"])
    without = learned._replace(thresholds=learned.thresholds | {"sample": {rule: none}})
    found = said(slices, without, **none)
    assert found["verdict"] == "unknown" and "the model has no threshold: nobody is healthy" in found["reasons"]


def test_a_scan_that_is_unlike_is_not_called(scorer, scans, judged, tmp_path):
    image, mask = (scans / kind / f"{judged[0]}.nii.gz" for kind in ("scans", "mask"))
    sound = scorer(image, mask)
    assert sound.qc.keys() == quality.MEASURES.keys()
    in_memory = nib.load(image)
    kept = scorer(nib.Nifti1Image(np.asarray(in_memory.dataobj), in_memory.affine), mask)
    assert kept.score == pytest.approx(sound.score, rel=1e-5) and kept.map.shape == in_memory.shape
    shutil.copy(image, tmp_path / "sub-1_T2w.nii.gz")
    assert "the name of the scan says t2, the model is of t1 after contrast" in reasons(
        scorer(tmp_path / "sub-1_T2w.nii.gz", mask)
    )
    assert "its brain mask is from 'head', those of training were from 'file'" in reasons(scorer(image, kind="head"))
    half = np.asarray(nib.load(mask).dataobj).copy()
    half[..., : half.shape[2] // 2] = 0
    nib.save(nib.Nifti1Image(half, in_memory.affine), tmp_path / "half.nii.gz")
    assert "ml of brain" in reasons(scorer(image, tmp_path / "half.nii.gz"))
    voxels, given = np.asarray(in_memory.dataobj), np.asarray(nib.load(mask).dataobj)
    for name, values in (("head", voxels), ("brain", given)):
        nib.save(nib.Nifti1Image(values[..., ::-1], in_memory.affine), tmp_path / f"{name}.nii.gz")
    assert "the best other way round" in reasons(scorer(tmp_path / "head.nii.gz", tmp_path / "brain.nii.gz"))
    nib.save(nib.Nifti1Image(voxels.max() - voxels, in_memory.affine), tmp_path / "negative.nii.gz")
    negative, within = scorer(tmp_path / "negative.nii.gz", mask), np.asarray(nib.load(mask).dataobj) > 0
    assert "histogram of intensities" in reasons(negative)
    np.testing.assert_array_equal(np.asarray(negative.scan.dataobj), (voxels.max() - voxels) * within)


def test_a_scan_of_whom_the_table_tells_something_else_is_scored_again(scorer, scans):
    scan = scans_of(scans / "scans.csv")[0]
    older = scan._replace(groups={"age": "90"})
    assert cohort.made_of(scan, "auto", scorer) == cohort.made_of(scan, "auto", scorer)
    assert cohort.made_of(scan, "auto", scorer) != cohort.made_of(older, "auto", scorer)


def reasons(result) -> str:
    assert result.verdict == "unknown"
    return "; ".join(result.about["reasons"])


def test_the_package_is_imported_without_jax():
    code = "import sys, symnorm_jax; assert 'jax' not in sys.modules and not hasattr(symnorm_jax, 'Scorers')"
    root = str(Path(symnorm_jax.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": root})
    assert symnorm_jax.Scorer is Scorer
