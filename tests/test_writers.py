"""Writers of metrics: what they wrote can be read, and nothing is sent or written elsewhere."""

import math
import socket
import struct
import sys

import pytest

from symnorm_jax.errors import ConfigError
from symnorm_jax.rundir import read_metrics
from symnorm_jax.training import writers
from symnorm_jax.training.writers import check_writers, recording

METRICS = {5: {"loss": 0.25, "data_share": 0.5}, 10: {"loss": 0.125, "data_share": math.pi}}


def record(folder, names) -> None:
    with recording(folder, 0, names) as write:
        for step, metrics in METRICS.items():
            write(step, metrics)


def events(path):
    """The events of a file of TensorBoard: records of length, its sum, data and their sum."""
    record_writer, event_pb2 = (
        pytest.importorskip(f"tensorboardX.{name}") for name in ("record_writer", "proto.event_pb2")
    )
    raw, at = path.read_bytes(), 0
    while at < len(raw):
        (length,) = struct.unpack_from("<Q", raw, at)
        data = raw[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", raw, at + 12 + length)[0] == record_writer.masked_crc32c(data)
        yield event_pb2.Event.FromString(data)
        at += 16 + length


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboardX")
    record(tmp_path / "unet", ("tensorboard",))
    (path,) = (tmp_path / "unet" / "tensorboard").iterdir()
    found = {(event.step, value.tag): value.simple_value for event in events(path) for value in event.summary.value}
    expected = {(step, f"unet/{name}"): x for step, metrics in METRICS.items() for name, x in metrics.items()}
    assert found == pytest.approx(expected, rel=1e-6)


def test_metrics_are_in_the_run_directory_whatever_else_writes(tmp_path):
    pytest.importorskip("tensorboardX")
    for names in ((), ("tensorboard",)):
        record(tmp_path / str(len(names)), names)
        found = read_metrics(tmp_path / str(len(names)) / "metrics.jsonl")
        assert found == [{"step": step, **metrics} for step, metrics in METRICS.items()]


def test_only_the_lead_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "lead", lambda: False)
    record(tmp_path, tuple(writers.WRITERS))
    assert not list(tmp_path.iterdir())


def test_an_unknown_writer_is_refused():
    with pytest.raises(ConfigError, match=r"train.writers='mlflow'; some of \['tensorboard', 'wandb'\] are allowed."):
        check_writers(("mlflow",))


@pytest.mark.parametrize("name, module", [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_library_that_is_not_installed_is_named_with_what_installs_it(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"train.writers='{name}' needs {module}: pip install -e '.\[{name}\]'"):
        check_writers((name,))


def test_wandb_stays_in_the_run_directory_and_sends_nothing(tmp_path, monkeypatch):
    """Its server, and its way to all others, is a port on which nobody may knock; its home must stay empty."""
    pytest.importorskip("wandb")
    home, folder = tmp_path / "home", tmp_path / "runs" / "demo" / "unet"
    home.mkdir()
    folder.mkdir(parents=True)
    for name in ("MODE", "ERROR_REPORTING", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", "")  # so that it is as before afterwards
        monkeypatch.delenv(f"WANDB_{name}")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name in ("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        record(folder, ("wandb",))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert list((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
