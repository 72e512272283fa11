"""The run directory: it knows what was run, and refuses to become another run."""

import json

import jax
import pytest

from configs.base import base, finish
from symnorm_jax.errors import RunError
from symnorm_jax.progress import progress
from symnorm_jax.rundir import RUN_FORMAT, environment, lineage, metrics_writer, open_run, read_config, read_metrics


def test_a_run_opens_again_with_its_own_config(tmp_path):
    config = finish(base(), "tiny")
    open_run(tmp_path, config, {"mask.kind": "paired"})
    open_run(tmp_path, config, {})
    assert json.loads((tmp_path / "overrides.json").read_text()) == {"mask.kind": "paired"}
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["packages"]["jax"] and len(environment["devices"]) == jax.device_count()
    assert read_config(tmp_path).to_dict() == json.loads(config.to_json())


def test_another_config_is_refused_with_the_keys_that_differ(tmp_path):
    open_run(tmp_path, finish(base(), "full"), {})
    other = finish(base(), "full")
    other.mask.kind, other.train.unet.steps = "paired", 7
    with pytest.raises(RunError, match="mask.kind .there 'random', here 'paired'.*train.unet.steps") as error:
        open_run(tmp_path, other, {})
    assert "vae" not in str(error.value)


def test_how_many_workers_prepare_makes_no_other_run(tmp_path):
    open_run(tmp_path, base(), {})
    other = base()
    other.data.workers = 7
    open_run(tmp_path, other, {})


def test_where_there_is_no_git_the_commit_is_not_known(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["commit"] is None


def test_a_run_of_another_format_is_refused_whoever_reads_it(tmp_path):
    """Runs of before had no format; what stands in their tables has other names."""
    config = finish(base(), "tiny")
    open_run(tmp_path, config, {})
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.pop("format") == RUN_FORMAT and "format" not in read_config(tmp_path)
    for found in ({}, {"format": RUN_FORMAT + 1}):
        (tmp_path / "config.json").write_text(json.dumps(found | written))
        sentence = f"made by another version .*: its format is {found.get('format')}, and {RUN_FORMAT} is read"
        for read in (lambda: read_config(tmp_path), lambda: open_run(tmp_path, config, {}), lambda: lineage(tmp_path)):
            with pytest.raises(RunError, match=f"config.json was {sentence} here; .*make the run anew in another"):
                read()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        read_config(tmp_path)


def test_lines_after_the_step_resumed_from_are_dropped_with_half_lines(tmp_path):
    path = tmp_path / "unet" / "metrics.jsonl"
    write = metrics_writer(path, 0)
    for step in (5, 10, 15):
        write(step, {"loss": 1.0 / step})
    with path.open("a") as file:
        file.write('{"step": 20, "lo')
    metrics_writer(path, 10)(15, {"loss": 2.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [(5, 0.2), (10, 0.1), (15, 2.0)]


def test_progress_passes_everything_on(capsys):
    assert list(progress([1, 2, 3], "counting", 3)) == [1, 2, 3]
    assert "counting" in capsys.readouterr().out
