"""A model adapted to healthy people of another scanner: what is fitted anew, on whom, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import symnorm

from symnorm_jax.data.phantom import people as phantom
from symnorm_jax.data.volumes import write_nifti
from symnorm_jax.inference import distil
from symnorm_jax.inference.adapt import ORIGIN
from symnorm_jax.inference.refit import FOLDS

OWN, NEW = 22, 6  # healthy people: those a model is adapted to, and those it then judges
OLD = 90  # years, the last of the new ones; the others are 30 and older


def write_people(folder: Path, count: int) -> list[str]:
    """Write healthy phantoms of another contrast as files, and give the lines of a manifest."""
    lines = []
    for scan in phantom.records(None, healthy=count, patients=0, contrast="flair", seed=5, spacing=6.0):
        volume, name = scan.load(), f"{scan.patient}.nii.gz"
        write_nifti(folder / "scans" / name, volume.voxels, volume.affine, "LPS")
        write_nifti(folder / "mask" / name, volume.brain.astype(np.uint8), volume.affine, "LPS")
        age = OLD if len(lines) == count - 1 else 30 + len(lines) % OWN
        lines.append(f"scans/{name},{scan.patient},mask/{name},{age},healthy")
    return lines


def table(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(["path,patient,brain_path,age,label", *lines]) + "\n")
    return path


def score(run: Path, people: Path, output: Path, healthy: Path | None = None, status: int = 0) -> str:
    more = [f"--adapt={healthy}"] if healthy else []
    done = symnorm("score", f"--run={run}", "-i", str(people), "-o", str(output), *more)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


def scores(output: Path) -> pd.DataFrame:
    return pd.read_csv(output / "scores.tsv", sep="\t", keep_default_na=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_run) -> Path:
    """New people scored by the model as it is, `before`, and adapted, `after`."""
    folder = tmp_path_factory.mktemp("adapted")
    lines = write_people(folder, OWN + NEW)
    own, new = table(folder / "own.csv", lines[:OWN]), table(folder / "new.csv", lines[OWN:])
    score(demo_run.workdir, new, folder / "before")
    assert f"adapted to {OWN} healthy people" in score(demo_run.workdir, new, folder / "after", own)
    return folder


def test_people_of_another_scanner_are_no_longer_unlike(folder):
    before, after = (scores(folder / name) for name in ("before", "after"))
    assert (before.verdict == "unknown").all() and before.reason.str.contains("histogram").all()
    assert (after.verdict != "unknown").sum() >= NEW - 1 and (after.healthy_people == OWN).all()
    assert after.rule.eq("healthy_quantile of patients").all() and after.promise.str.contains(ORIGIN).all()
    assert set(after.probability) == {""}  # which needs ill people


def test_an_age_that_the_own_people_have_not_is_doubted(folder):
    """Of phantoms of the demo no age is known, so the model as it was says nothing."""
    before, after = (scores(folder / name) for name in ("before", "after"))
    told = after.reason.str.contains(f"age {OLD}; 30 to {29 + OWN} is the range of training")
    assert told.sum() == 1 and after.verdict[told].item() == "unknown"
    assert not before.reason.str.contains("age ").any()


def test_reference_scores_are_of_people_whom_the_fit_has_not_seen(folder):
    """Scores of people in the fit are lower than those of new people; those of the reference are not."""
    model = folder / "after" / "model"
    done = symnorm("score", f"--model={model}", "-i", str(folder / "own.csv"), "-o", str(folder / "seen"))
    assert done.returncode == 0, done.stderr
    out_of_fold = np.median(distil.read(model).reference["scores"]["people"])
    seen, new = (np.median(scores(folder / name).score) for name in ("seen", "after"))
    assert seen < new and out_of_fold > (seen + new) / 2, (seen, out_of_fold, new)


def test_the_adapted_model_has_the_networks_of_the_other_and_a_card(folder, demo_run):
    base, model = distil.of_run(demo_run.workdir), distil.read(folder / "after" / "model")
    assert model.reference["adapted"]["from"] == base.checksum != model.checksum
    assert all(scores(folder / "after").model == model.checksum)
    assert not np.allclose(model.gaussian.mean, base.gaussian.mean)
    assert set(model.healthy.maps) == set(base.healthy.maps)
    assert model.thresholds["pixel"]["dice"]["value"] is None and model.thresholds["pixel"]["fpr_5"]["value"] > 0
    assert f"Adapted to {OWN} healthy people" in (folder / "after" / "model" / "README.md").read_text()
    assert "phantom" not in json.dumps(model.reference) and FOLDS < OWN


def test_a_second_call_reads_the_model_and_other_people_make_another(folder, demo_run):
    sums = folder / "after" / "model" / "SHA256SUMS"
    before = sums.stat().st_mtime_ns
    score(demo_run.workdir, folder / "new.csv", folder / "after", folder / "own.csv")
    assert sums.stat().st_mtime_ns == before


def test_too_few_the_ill_and_those_to_be_judged_are_refused(folder, demo_run, tmp_path):
    lines = (folder / "own.csv").read_text().splitlines()[1:]
    few, ill = (
        table(folder / "few.csv", lines[:19]),
        table(folder / "ill.csv", lines[:-1] + [lines[-1][:-7] + "abnormal"]),
    )
    for healthy, people, told in (
        (few, "new.csv", "scans of 19 people can be used; 20 healthy people or more"),
        (ill, "new.csv", "is abnormal; healthy people alone"),
        (folder / "own.csv", "few.csv", "is in --input too"),
    ):
        assert told in score(demo_run.workdir, folder / people, tmp_path / "out", healthy, status=1)
    assert not (tmp_path / "out" / "scores.tsv").exists()
