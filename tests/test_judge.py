"""Labelled people judged by a finished run: nothing is fitted on them, and nobody whom it knows is judged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import symnorm

from symnorm_jax.data.finding import find_scans
from symnorm_jax.data.manifest import read_table
from symnorm_jax.data.volumes import write_nifti
from symnorm_jax.errors import ConfigError
from symnorm_jax.inference import distil, quality
from symnorm_jax.inference.labelled import config_of
from symnorm_jax.inference.reading import prepared, scans_of
from symnorm_jax.inference.told import About
from symnorm_jax.run import Run

PEOPLE = 3  # of either kind, of the test split of the source


def write_people(folder: Path, run: Run, split: str, standings: tuple[str, ...], name: str = "") -> Path:
    """Write people of a run as somebody's files, with a manifest that says what they are."""
    rows, lines = run.manifest[run.manifest.split == split], ["path,patient,label,brain_path,lesion_path"]
    for standing in standings:
        of = rows[rows.healthy_person == (standing == "healthy")]
        chosen = sorted(of.patient.unique())[:PEOPLE]
        for scan in [one for one in find_scans(run.config.data) if one.patient in chosen]:
            volume, place = scan.load(), folder / scan.patient
            masks = {"brain": volume.brain} | ({} if standing == "healthy" else {"lesion": volume.lesion})
            write_nifti(place / "t1.nii.gz", volume.voxels, volume.affine, "LPS")
            for kind, mask in masks.items():
                write_nifti(place / f"{kind}.nii.gz", mask.astype(np.uint8), volume.affine, "LPS")
            cells = [f"{scan.patient}/{kind}.nii.gz" if kind in masks else "" for kind in ("brain", "lesion")]
            lines.append(",".join([f"{scan.patient}/t1.nii.gz", f"{name}{scan.patient}", standing, *cells]))
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    return folder / "people.csv"


def judge(run: Path, people: Path, output: Path, status: int = 0) -> str:
    done = symnorm("evaluate", f"--run={run}", "-i", str(people), "-o", str(output))
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


def read(run: Path, name: str) -> dict:
    return json.loads((run / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("judged")


@pytest.fixture(scope="module")
def source(demo_run: Run) -> Path:
    return demo_run.workdir


@pytest.fixture(scope="module")
def ill(demo_run: Run, folder, source) -> Path:
    """A run in which three ill people with masks, and nobody else, are judged."""
    judge(source, write_people(folder / "people", demo_run, "test", ("abnormal",)), folder / "ill")
    return folder / "ill"


def test_people_get_the_scores_that_the_run_gave_them(ill, source):
    """The cut, networks, healthy maps, Gaussian and moments are the run's, and the signs of trivial scores."""
    theirs, own = (read_table(run / "scores.csv") for run in (source, ill))
    assert set(own.split) == {"test"} and own.patient.nunique() == PEOPLE
    keys = ["patient", "slice"]
    both = own.merge(theirs[theirs.split == "test"], on=keys, suffixes=("", "_there"), validate="1:1")
    assert len(both) == len(own) and (both.label == both.label_there).all()
    names = [name for name in theirs if f"{name}_there" in both and pd.api.types.is_float_dtype(both[name])]
    assert {"mahalanobis", "highest+mahalanobis", "trivial_fluid", "trivial_position_and_area"} <= set(names)
    for name in names:
        np.testing.assert_allclose(both[name], both[f"{name}_there"], rtol=1e-4, atol=1e-5, err_msg=name)


def test_whom_score_would_not_call_is_listed_and_judged(ill, demo_run, source):
    """The manifest names images t1.nii.gz, and the model is of another contrast; the rest is as `score` has it."""
    listed, reference = pd.read_csv(ill / "doubts.csv", index_col="index"), distil.of_run(source).reference
    scans = {scan.patient: scan for scan in scans_of(ill.parent / "people" / "people.csv")}
    assert list(listed.patient) == sorted(scans) and read(ill, "metrics")["patient"]["mahalanobis"]
    for one in listed.itertuples():
        made = prepared(scans[one.patient], demo_run.config.data, "file")
        about = About(made.scan.location, made.scan.groups, made.brain_from)
        measured = quality.measured(made.rows, made.arrays, made.about, demo_run.config)
        doubts = quality.asked(measured, about, demo_run.config, reference)[1]
        assert "name" in doubts and set(one.doubts.split()) - {"whole"} == set(doubts)
        assert one.reasons.startswith("; ".join(doubts.values()))
    [note] = [note for note in read(ill, "metrics")["notes"] if "doubts.csv" in note]
    assert note.startswith(f"`symnorm score` would not call {PEOPLE} of {PEOPLE} scans") and f"name {PEOPLE}" in note
    assert note.split("`")[-1] in (ill / "report.html").read_text()


def test_nothing_is_fitted_and_every_threshold_names_the_run(ill, source):
    assert (ill / "gaussian.npz").read_bytes() == (source / "gaussian.npz").read_bytes()
    fits, theirs = read(ill, "thresholds"), read(source, "thresholds")
    assert fits["moments"] == theirs["moments"] and (ill / "calibration.json").exists()
    parts = [(fits, theirs), (read(ill, "calibration"), read(source, "calibration"))]
    for level in ("sample", "patient"):
        for mine, there in parts:
            for score, rules in there[level].items():
                for rule, fit in rules.items():
                    assert mine[level][score][rule] == fit | {"origin": f"{source}: val"}, (level, score, rule)
    pixels, there = (read(run, "metrics")["pixel_thresholds"] for run in (ill, source))
    assert pixels["dice"]["value"] is not None
    assert pixels == {rule: fit | {"origin": f"{source}: val"} for rule, fit in there.items()}


def test_what_is_undefined_is_said_and_the_rest_is_there(ill, source):
    found = read(ill, "metrics")
    assert f"those of {source}: nothing was fitted on these people." in found["notes"][0]
    assert any("no healthy patient" in note for note in found["notes"])
    patients = found["patient"]["mahalanobis"]
    assert patients["auroc"]["value"] is None and patients["sensitivity"]["value"] is not None
    assert found["sample"]["mahalanobis"]["auroc"]["value"] is not None  # slices of theirs without a lesion
    assert found["pixel"]["map"]["dice"]["value"] is not None and read(ill, "cost")["parameters"] > 0
    card = (ill / "MODEL_CARD.md").read_text()
    assert "Nobody here was trained on" in card and f"symnorm evaluate --run={source} --input=" in card
    assert f"fitted on validation of {source}" in (ill / "report.html").read_text()


def test_the_same_command_goes_on_and_the_run_can_be_evaluated_and_compared(ill, folder, source):
    before = read(ill, "metrics")
    (ill / "metrics.json").unlink()
    judge(source, folder / "people" / "people.csv", ill)
    assert read(ill, "metrics") == before
    done = symnorm("evaluate", f"--run={ill}", "--from=gaussian")
    assert done.returncode == 0 and read(ill, "metrics") == before, done.stderr
    shutil.copytree(ill, folder / "again")
    done = symnorm("compare", f"--runs={ill},{folder / 'again'}", f"--output={folder / 'compared'}")
    assert done.returncode == 0, done.stderr
    assert "again" in (folder / "compared" / "comparison.md").read_text()


def test_whom_the_run_has_seen_is_refused_under_another_name_too(demo_run, folder, source):
    known = shutil.copytree(source, folder / "known")
    config = read(source, "config")
    config["data"]["duplicate"] = 0.999  # phantoms of 6 mm look alike
    (known / "config.json").write_text(json.dumps(config))
    people = write_people(folder / "seen", demo_run, "train", ("healthy",), name="other ")
    told = judge(known, people, folder / "leaking", status=1)
    assert "the scan other phantom-h" in told and f"the scan {known}: phantom-h" in told
    assert "likeness of 1.000, above 0.999" in told
    assert not (folder / "leaking" / "embeddings").exists()


def test_a_run_that_only_judges_is_no_source_and_no_model(ill, folder, source):
    people = folder / "people" / "people.csv"
    assert f"name {source}, by which" in judge(ill, people, folder / "nobody", status=1)
    for command in (["export", "-o", str(folder / "model")], ["score", "-i", str(people), "-o", str(folder / "out")]):
        done = symnorm(*command, f"--run={ill}")
        assert done.returncode == 1 and f"name {source}, by which" in done.stderr


@pytest.mark.parametrize(("key", "value"), [("finetune.kind", "gaussian"), ("score.patient", "calibrated")])
def test_what_would_have_to_be_fitted_is_refused(demo_run, source, folder, key, value):
    config = config_of(source, folder / "people.csv", None).copy_and_resolve_references()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=rf"{key}='{value}' with data.split=\(0, 0, 1\), by which nothing is fitted"):
        Run(config.lock(), folder / "refused")
