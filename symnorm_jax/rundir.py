"""The run directory: names of its files, what was run, on what and from what, and metrics as JSON lines."""

import json
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax.errors import RunError
from symnorm_jax.files import locked, named, read_json, remove_partial, write_json, write_text
from symnorm_jax.hosts import agreed, lead, on_lead
from symnorm_jax.settings import flat, only_judges

RUN_FORMAT = 5  # of the files of a run; raised when their names or what is in them change
CONFIG, OVERRIDES, ENVIRONMENT = "config.json", "overrides.json", "environment.json"
MANIFEST, EMBEDDINGS, GAUSSIAN, PREDICTIONS = "manifest.csv", "embeddings", "gaussian.npz", "predictions.csv"
SCORES, THRESHOLDS, CALIBRATION = "scores.csv", "thresholds.json", "calibration.json"
METRICS, REPORT, COST = "metrics.json", "report.html", "cost.json"
CONTROLS, SHIFTS = "controls.json", "shifts.json"
DOUBTS = "doubts.csv"  # of people who are judged by another run: why `symnorm score` would not call them
ORIGIN = "origin.json"  # says where converted weights came from; written last, so that they are whole
UNAUDITED = "leakage.json"  # sentences on what no leakage audit can find
CHECKPOINTS, LOG = "ckpt", "metrics.jsonl"  # of a stage, in the folder of its name
MAPS, RAW, HEALTHY, DIFFERENCE = "maps", "raw.npy", "healthy.npz", "difference.npy"  # the folder; of training slices
INDIFFERENT = (  # keys that change where and how fast, not what
    *("data.store", "data.threads", "data.workers", "network.remat", "sharding.fsdp", "sharding.smallest"),
    *("train.writers", "train.profile", "train.log_every", "train.checkpoint_every"),
)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "nibabel", "numpy", "scipy", "scikit-learn")


@contextmanager
def claimed(workdir: Path, option: str = "--workdir") -> Iterator[None]:
    """Keep other processes out of a directory while the block runs. Raises RunError where there is one in it."""
    if lead():
        workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir / ".lock") if lead() else nullcontext(True) as mine:
        if not agreed(mine):
            raise RunError(f"{workdir} is in use by another process; wait for its end, or choose another {option}.")
        yield


def open_run(workdir: Path, config: ConfigDict, overrides: dict[str, Any]) -> None:
    """Begin a run in `workdir`. Raises RunError where another config began one; it names the keys that differ."""
    on_lead(partial(_begin, workdir, config, overrides))


def _begin(workdir: Path, config: ConfigDict, overrides: dict[str, Any]) -> None:
    begun = (workdir / CONFIG).exists()
    if begun:
        was, now = (defaultdict(lambda: "no such key", flat(one)) for one in (read_config(workdir), config))
        keys = [key for key in sorted({**was, **now}) if was[key] != now[key] and key not in INDIFFERENT]
        if keys:
            differences = ", ".join(f"{key} (there {was[key]!r}, here {now[key]!r})" for key in keys)
            raise RunError(f"{workdir} was begun with another config: {differences}; choose another --workdir.")
        if cpu_devices(workdir) not in (None, jax.device_count()):
            there = f"was begun on {cpu_devices(workdir)} devices of a CPU and goes on on {jax.device_count()}"
            logging.warning("%s %s: its numbers will differ in their last digits.", workdir, there)
    workdir.mkdir(parents=True, exist_ok=True)
    remove_partial(workdir)  # of a run that was cut off before it had a config, too
    if not begun:
        write_json(workdir / OVERRIDES, overrides)
        write_json(workdir / ENVIRONMENT, environment())
        write_config(workdir, json.loads(config.to_json()))


def write_config(workdir: Path, settings: dict[str, Any]) -> None:
    """Write `config.json`: settings nested as in a config, and the format of the files beside it."""
    write_json(workdir / CONFIG, {"format": RUN_FORMAT, **settings})


def read_config(workdir: Path) -> ConfigDict:
    """Read the config a run was begun with. Raises RunError where `workdir` holds no run, or one of another format."""
    path = Path(workdir) / CONFIG
    if not path.exists():
        raise RunError(f"{workdir} holds no run: there is no {CONFIG}; begin one with `symnorm train`.")
    settings = read_json(path)
    found = settings.pop("format", None)
    if found != RUN_FORMAT:
        made = f"was made by another version of symnorm_jax: its format is {found}, and {RUN_FORMAT} is read here"
        raise RunError(f"{path} {made}; go on with that version, or make the run anew in another --workdir.")
    return ConfigDict(settings).lock()


def refuse_judge(run: str | Path, option: str) -> None:
    """Raise RunError for a run that has only judged people by another one: that one is meant."""
    config = read_config(Path(run))
    if only_judges(config):
        raise RunError(f"{option}={run}: has nothing of its own; name {config.init_from}, by which it has judged.")


def converted(folder: str) -> bool:
    """Tell whether a folder that a run may start from holds converted weights, whose people nobody can audit."""
    return (Path(folder) / ORIGIN).exists()


def note_unaudited(folder: str, workdir: Path) -> None:
    """Say, in the log and in the run directory, that leakage from the people of converted weights cannot be found."""
    origin = read_json(Path(folder) / ORIGIN)
    which = "the release" if origin["released"] else "not the release"
    sentence = (
        f"The networks come from {folder}, converted from a file of SHA-256 {origin['sha256']}, {which}. They learned "
        f"from {origin['learned_from']}. No list of these people comes with them: whether this run judges some of "
        f"them, which would flatter its results, cannot be audited."
    )
    logging.warning("%s", sentence)
    write_json(workdir / UNAUDITED, [sentence])


def unaudited(workdirs: Iterable[Path]) -> list[str]:
    """Collect what `note_unaudited` has said in these run directories, each sentence once."""
    files = [workdir / UNAUDITED for workdir in workdirs if (workdir / UNAUDITED).exists()]
    return list(dict.fromkeys(sentence for file in files for sentence in read_json(file)))


def weakly_supervised(configs: dict[str, ConfigDict]) -> list[str]:
    """Say which of the runs with these names and configs are not unsupervised, in a sentence; none where all are."""
    names = [name for name, config in configs.items() if taught(config)]
    why = "trained on patients as on healthy people, and perhaps told who is which or where lesions lie"
    return [f"Weakly supervised: {', '.join(names)}, {why}."] if names else []


def taught(config: ConfigDict) -> bool:
    """Tell whether a run, or one that it goes back to and that is still there, has learned from patients too."""
    before = [read_config(Path(run)) for run in lineage(config.init_from, lost=True) if not converted(run)]
    return any(one.data.train_on == "everyone" for one in (config, *before))


def lineage(run: str | None, lost: bool = False) -> list[str]:
    """List the run that one starts from, the one before that, and so on; converted weights are the last.

    Raises RunError for one that is not there; where they may be `lost`, the list ends before it.
    """
    found = []
    while run and run not in found and not (lost and not (Path(run) / CONFIG).exists()):
        found.append(run)
        run = read_config(Path(run)).init_from
    return found


def environment() -> dict[str, Any]:
    """List versions, commit and devices; no user or host name."""
    commit = None  # outside a repository, and where there is no git
    with suppress(FileNotFoundError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        said = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False).stdout
        commit = said.strip() or None
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit,
        "devices": [str(device.device_kind) for device in jax.devices()],
        "processes": jax.process_count(),
    }


def cpu_devices(workdir: Path) -> int | None:
    """Count the CPU devices that a run was begun on; None where there is no run, or other devices."""
    path = workdir / ENVIRONMENT
    kinds = read_json(path)["devices"] if path.exists() else []
    return len(kinds) if set(kinds) == {"cpu"} else None


def metrics_writer(path: Path, start: int) -> Callable[[int, dict[str, float]], None]:
    """Write metrics by step as JSON lines; lines after `start`, left by a run that was cut off, are dropped."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start))

    def write(step: int, metrics: dict[str, float]) -> None:
        with named(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    return write


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read the lines of a metrics file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
