"""Batch t is a function of (seed, t), and scoring sees every slice once."""

import numpy as np
import pandas as pd
import pytest

from configs.base import base, finish
from symnorm_jax.data import store
from symnorm_jax.data.pipeline import scoring_batches, training_batches
from symnorm_jax.data.store import SampleSource


def config(**changes):
    settings = finish(base(), "tiny")
    settings.update_from_flattened_dict({"data.size": (8, 8), "mask.patch": 2, **changes})
    return settings


@pytest.fixture
def source(tmp_path) -> SampleSource:
    """Seven slices of two scans; the intensity of a slice is its row."""
    rows = []
    for key, count in (("one", 3), ("two", 4)):
        arrays = np.zeros((count, 8, 8, 3), np.float16)
        arrays[..., 0] = (np.arange(count) + len(rows)).reshape(-1, 1, 1)
        arrays[:, 4:, :, 0] *= 2  # left and right differ
        store.write(tmp_path, key, arrays, {"rows": []})
        rows += [{"store": key, "patient": f"p {key}", "record": i, "records_in_scan": count} for i in range(count)]
    return SampleSource(tmp_path, pd.DataFrame(rows))


def take(batches, count):
    return [next(batches) for _ in range(count)]


def equal(first, second) -> bool:
    return all((first[name] == second[name]).all() for name in first)


def test_a_slice_is_what_was_stored(source):
    for i in range(7):
        element = source[i]
        assert element["index"] == i and (element["image"][:4] == i).all() and (element["image"][4:] == 2 * i).all()
        assert element["patient"] == (0 if i < 3 else 1)
        assert element["image"].shape == (8, 8, 1) and element["image"].dtype == np.float32


def test_a_table_may_name_some_slices_in_any_order(source, tmp_path):
    rows = pd.DataFrame({"store": ["two", "one"], "record": [3, 1], "records_in_scan": [4, 3]}, index=[60, 10])
    rows["patient"] = "p"
    chosen = SampleSource(tmp_path, rows)
    assert [(int(chosen[i]["index"]), chosen[i]["image"][0, 0, 0]) for i in range(2)] == [(60, 6), (10, 1)]


@pytest.mark.parametrize("threads", [0, 2])
def test_batches_from_a_step_are_those_of_an_uninterrupted_run(source, threads):
    settings = config(**{"data.threads": threads})
    whole = take(training_batches(source, settings, 4), 6)
    later = take(training_batches(source, settings, 4, start=3), 3)
    assert all(equal(first, second) for first, second in zip(whole[3:], later, strict=True))


def test_the_seed_decides_order_and_masks(source):
    same, other = (take(training_batches(source, config(seed=seed), 4), 3) for seed in (0, 1))
    assert any(not equal(first, second) for first, second in zip(same, other, strict=True))


def test_an_epoch_shows_every_slice_and_masks_differ_between_epochs(source):
    batches = take(training_batches(source, config(), 7), 2)
    assert all(sorted(batch["index"]) == list(range(7)) for batch in batches)
    masks = [batch["hidden"][np.argsort(batch["index"])] for batch in batches]
    assert (masks[0] != masks[1]).any() and masks[0].shape == (7, 4, 4) and masks[0].dtype == bool


def test_hosts_together_see_the_batch_of_one_host(source, monkeypatch):
    whole = take(training_batches(source, config(), 4), 3)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    parts = []
    for host in range(2):
        monkeypatch.setattr("jax.process_index", lambda host=host: host)
        parts.append(take(training_batches(source, config(), 4), 3))
    for batch, first, second in zip(whole, *parts, strict=True):
        interleaved = np.stack([first["hidden"], second["hidden"]], 1).reshape(batch["hidden"].shape)
        np.testing.assert_array_equal(interleaved, batch["hidden"])


def test_flips_only_when_asked(source):
    def lefts(**changes):
        batches = take(training_batches(source, config(**changes), 7), 4)
        return {(x[0, 0, 0] > x[-1, 0, 0]).item() for batch in batches for x in batch["image"] if x.any()}

    assert lefts() == {False} and lefts(**{"data.flip": True}) == {False, True}


def test_scoring_pads_the_last_batch_and_says_so(source):
    batches = list(scoring_batches(source, 4))
    assert [len(batch["index"]) for batch in batches] == [4, 4]
    seen = np.concatenate([batch["index"][batch["valid"]] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(7))
