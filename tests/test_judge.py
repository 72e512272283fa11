"""Labelled people judged by a finished run: nothing is fitted on them, and nobody whom it knows is judged."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import symnorm

from symnorm_jax.data.finding import find_scans
from symnorm_jax.data.manifest import read_table
from symnorm_jax.data.volumes import write_nifti
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
