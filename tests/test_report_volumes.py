"""The report of a run of whole volumes speaks of volumes, and does not tell the same thing twice."""

import re

import pandas as pd
import pytest
from test_report import card, page_of, text_of, write_run

from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.files import read_json, write_json
from symnorm_jax.report import page as report
from symnorm_jax.report.inputs import read_files

MEANT = ("middle slice", "the slice with most", "the slices of a volume")  # where a slice is a slice


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of volumes, one a patient, and its config."""
    folder = tmp_path_factory.mktemp("volumes") / "whole"
    return folder, write_run(folder, maps=False, volumes=True)


def said(folder, config, capsys):
    """All that is told of a run: page, card and terminal."""
    report.print_results(folder)
    page = text_of(page_of(folder, config)).split("Config and environment")[0]
    return page, card(read_files(folder, config)), capsys.readouterr().out


def test_a_volume_is_called_a_volume(run, capsys):
    for text in said(*run, capsys):
        for phrase in MEANT:
            text = text.replace(phrase, "")
        assert not re.findall(r"slice", text, re.IGNORECASE) and "volume" in text
        assert "within position" not in text and "within brain area" not in text
    page, written, _ = said(*run, capsys)
    assert ">position</th>" not in page_of(*run) and ">slice</th>" not in page_of(*run)
    assert "seconds a volume" in page and "s a volume on cpu" in written
    assert "Volumes of 8 x 8 x 6 voxels of 6.0 mm" in written and "healthy volumes" in page


def test_one_volume_a_patient_is_told_once(run, capsys):
    page, written, terminal = said(*run, capsys)
    assert "Every patient has one volume" in page and "All numbers at volume level" in page
    for text in (page, written, terminal):
        assert "patient level" not in text.lower() and "patients: AUROC" not in text


def test_people_who_are_there_healthy_and_abnormal_are_compared_with_themselves(run, tmp_path, capsys):
    """Each healthy test person becomes a session of the abnormal one before; nobody is both in the run as it was."""
    assert not any("within person" in text for text in said(*run, capsys))
    folder = tmp_path / "pairs"
    config = write_run(folder, maps=False, volumes=True)
    table = pd.read_csv(folder / "scores.csv", index_col="index", keep_default_na=False)
    name = table.patient.where(~table.healthy_person | (table.split != "test")).ffill()
    table.assign(patient=name, session=table.label).to_csv(folder / "scores.csv")
    write_json(folder / "metrics.json", evaluate(folder, config))
    test = table[table.split == "test"].assign(patient=name)
    pairs = test.pivot(index="patient", columns="label", values="mahalanobis")
    found = read_json(folder / "metrics.json")["sample"]["mahalanobis"]["auroc_within_person"]
    assert found["value"] == pytest.approx((pairs.abnormal > pairs.healthy).mean()) and len(pairs) == 4
    page, _, terminal = said(folder, config, capsys)
    assert "volumes: AUROC within person" in page and "within" in terminal and "person" in terminal


def test_levels_that_differ_are_both_told(tmp_path, capsys):
    folder = tmp_path / "traces"
    config = write_run(folder, maps=False, volumes=True)
    table = pd.read_csv(folder / "scores.csv", index_col="index", keep_default_na=False)
    table.loc[(table.split == "test") & (table.patient == "test p2"), "label"] = "neither"
    table.to_csv(folder / "scores.csv")
    write_json(folder / "metrics.json", evaluate(folder, config))
    for text in said(folder, config, capsys):
        assert "volume level" in text.lower() and "patient level" in text.lower()


def test_the_numbers_are_those_of_the_volumes(run):
    folder, config = run
    found = read_json(folder / "metrics.json")["sample"]["mahalanobis"]
    shown = read_files(folder, config).results["volume"]["mahalanobis"]
    assert shown["auroc"] == found["auroc"]
    gaps = {name.split("_minus_")[1]: gap for name, gap in found.items() if "_minus_" in name}
    assert gaps.keys() == {"trivial_position", "trivial_brightness"}
    assert all(shown[f"auroc_minus_{name}"] == gap for name, gap in gaps.items())
    value = f"{found['auroc']['value']:.3f} ("
    assert f"tells abnormal from healthy volumes with an AUROC of {value}" in text_of(page_of(folder, config))


def test_what_is_said_of_slices_stays(tmp_path):
    config = write_run(tmp_path / "cut", maps=False)
    files, results = read_files(tmp_path / "cut", config), read_json(tmp_path / "cut" / "metrics.json")
    assert files.results["slice"] == results["sample"] and files.levels == {"sample": "slice", "patient": "patient"}
