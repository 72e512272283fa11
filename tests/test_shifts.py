"""Runs judged in other contrasts: only the image changes, and without a change the numbers are the run's own."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from symnorm_jax.cli import main
from symnorm_jax.compare.entries import config_with
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.evaluate import map_metrics, read_scores
from symnorm_jax.evaluation.measures import WITHIN
from symnorm_jax.evaluation.pixels import TRIVIAL_MAPS
from symnorm_jax.files import read_json, write_json
from symnorm_jax.inference.shifts import UNCHANGED, Part, changed, measure_of, shifts
from symnorm_jax.systems.contrast import FIXED

ROWS = pd.DataFrame({"patient": ["a", "b", "a"], "session": "", "slice": [1, 0, 0]})


@pytest.mark.parametrize("how, middle", [("percentiles", None), ("robust", 0.0)])
def test_whole_scans_are_changed_and_scaled_as_scans_are(how, middle, rng):
    """One curve for all slices of a scan; two of the same fall back; masks stay, and nothing is outside the brain."""
    data = ConfigDict({"normalise": how, "percentiles": (1.0, 99.0)})
    held = np.concatenate([rng.uniform(0, 1, (3, 16, 16, 1)), rng.integers(0, 2, (3, 16, 16, 2))], -1).astype(
        np.float16
    )
    held[..., 0] *= held[..., 1]
    once = changed(held, ROWS, FIXED["falling"], data)
    np.testing.assert_array_equal(once[..., 1:], held[..., 1:])
    assert not once[held[..., 1] == 0, 0].any()
    for place in ([0, 2], [1]):
        inside = held[place][..., 1] > 0
        one, other = (x[place][..., 0][inside].astype(float) for x in (held, once))
        assert np.corrcoef(one, other)[0, 1] < -0.99
        assert middle is None or abs(np.median(other) - middle) < 1e-3
    again = changed(once, ROWS, FIXED["falling"], data)
    assert (
        np.corrcoef(again[..., 0][held[..., 1] > 0].astype(float), held[held[..., 1] > 0, 0].astype(float))[0, 1] > 0.98
    )


def test_a_folder_of_runs_is_judged_as_compare_judges_it_and_nothing_of_it_changes(demo_run, tmp_path, capsys):
    folder, steps = tmp_path / "seeds", ("erode", "median", "components")
    run = folder / "seed0"
    shutil.copytree(demo_run.workdir, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    main(["study", "shifts", f"--run={folder}", f"--postprocess={','.join(steps)}"])
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    found = read_json(folder / "shifts.json")
    assert (found.pop("split"), found.pop("postprocess")) == ("test", list(steps))
    assert list(found) == [UNCHANGED, *FIXED]
    table = read_scores(run, read_manifest(run / "manifest.csv"))
    maps = map_metrics(run, table, config_with(run, steps), ("map", *TRIVIAL_MAPS))
    for name, of in maps.items():
        for measure, metric in of.pixel.items():
            asked = found[UNCHANGED][measure_of(measure, name)]["value"]
            np.testing.assert_allclose(asked, metric(np.ones((1, len(of.patients))))[0], rtol=0.05, atol=2e-3)
    own = read_json(run / "metrics.json")["sample"][demo_run.config.score.headline][WITHIN]["value"]
    np.testing.assert_allclose(found[UNCHANGED][WITHIN]["value"], own, rtol=0.05)
    assert found["falling"][WITHIN]["value"] != found[UNCHANGED][WITHIN]["value"]
    assert "Contrast shift, test split" in capsys.readouterr().out


def test_runs_are_averaged_over_everybody_in_them(demo_run, monkeypatch):
    """Of folds, who share nobody, and under a change that takes a half of what each has."""
    values = {"one": {"a": 1.0, "c": 3.0}, "other": {"b": 5.0, "d": 7.0}}

    def part(run: Path, _config, _split) -> Part:
        patients, own = (np.array([*of]) for of in (values[run.name], values[run.name].values()))
        shares = {UNCHANGED: 0.5, "falling": 0.25}
        return Part(patients, {name: {"dice": lambda w, x=x: w @ own * x} for name, x in shares.items()})

    monkeypatch.setattr("symnorm_jax.inference.shifts._part", part)
    monkeypatch.setattr("symnorm_jax.inference.shifts.config_with", lambda *_: demo_run.config)
    found = shifts([Path("one"), Path("other")])
    assert found[UNCHANGED]["dice"]["value"] == 4 and found["falling"]["dice"]["value"] == 2
    less = found["falling"][f"dice_minus_{UNCHANGED}"]
    assert less["value"] == -2 and less["low"] < -2 < less["high"]


def test_a_run_without_drawn_lesions_is_refused(demo_run, tmp_path):
    (tmp_path / "config.json").write_bytes((demo_run.workdir / "config.json").read_bytes())
    write_json(tmp_path / "metrics.json", {})
    with pytest.raises(RunError, match="has no map of slices, or no drawn lesion"):
        shifts([tmp_path])


def test_runs_of_one_name_are_refused_before_any_is_read(tmp_path):
    with pytest.raises(SystemExit, match="fold0: runs are told apart by their names, which must differ"):
        main(["study", "shifts", f"--run={tmp_path / 'a' / 'fold0'},{tmp_path / 'b' / 'fold0'}"])
