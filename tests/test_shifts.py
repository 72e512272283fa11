"""Runs judged in other contrasts: only the image changes, and without a change the numbers are the run's own."""

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.measures import WITHIN
from symnorm_jax.evaluation.pixels import TRIVIAL_MAPS
from symnorm_jax.files import read_json, write_json
from symnorm_jax.inference.shifts import UNCHANGED, changed, shifts
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


def test_a_run_is_judged_by_what_it_has_and_nothing_of_it_changes(demo_run):
    before = {path: path.stat().st_mtime_ns for path in demo_run.workdir.rglob("*")}
    found = shifts(demo_run.workdir, demo_run.config)
    assert list(found) == [UNCHANGED, *FIXED]
    metrics = read_json(demo_run.workdir / "metrics.json")
    own = metrics["pixel"]["map"]["average_precision"]["value"], metrics["pixel"]["map"]["dice"]["value"]
    own += (metrics["sample"][demo_run.config.score.headline][WITHIN]["value"],)
    asked = [found[UNCHANGED][name]["value"] for name in ("average_precision", "dice", WITHIN)]
    np.testing.assert_allclose(asked, own, rtol=0.05, atol=2e-3)
    for name in TRIVIAL_MAPS:
        of = found[UNCHANGED][f"average_precision_{name}"]["value"]
        np.testing.assert_allclose(of, metrics["pixel"][name]["average_precision"]["value"], rtol=0.05, atol=2e-3)
    for name in FIXED:
        of = found[name]
        less = of["average_precision"]["value"] - found[UNCHANGED]["average_precision"]["value"]
        assert abs(of[f"average_precision_minus_{UNCHANGED}"]["value"] - less) < 2e-6
    assert found["falling"][WITHIN]["value"] != found[UNCHANGED][WITHIN]["value"]
    assert before == {path: path.stat().st_mtime_ns for path in demo_run.workdir.rglob("*")}


def test_a_run_without_drawn_lesions_is_refused(demo_run, tmp_path):
    (tmp_path / "manifest.csv").write_bytes((demo_run.workdir / "manifest.csv").read_bytes())
    write_json(tmp_path / "metrics.json", {})
    with pytest.raises(RunError, match="has no map of slices, or no drawn lesion"):
        shifts(tmp_path, demo_run.config)
