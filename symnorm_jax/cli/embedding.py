"""Embed scans with the networks of a finished run: no training, no split, no label."""

import os
from pathlib import Path

import jax
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import brain, targets, template
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.pipeline import scoring_batches
from symnorm_jax.data.prepare import store_scans
from symnorm_jax.data.sources import folder, table
from symnorm_jax.data.store import SampleSource
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import RunError, ScanError
from symnorm_jax.files import write_text
from symnorm_jax.report import cohort
from symnorm_jax.run import Run
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring import export, mahalanobis
from symnorm_jax.scoring.embed import make_embed
from symnorm_jax.settings import target_of
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.train import initial_variables
from symnorm_jax.training.transfer import restored


def embed(workdir: Path, source: Path, output: Path, brain_from: str | None, store: str | None, overwrite: bool) -> str:
    """Embed the scans of `source` into the table `output`, and return a sentence on what was written.

    Raises RunError for a run that is not finished, and ScanError where no scan can be used.
    """
    export.check_output(output, source, overwrite)
    config = _config(workdir, brain_from, store)
    rows = _prepared(_scans(source), config.data, source)
    used, excluded = rows[rows.split != "excluded"], rows[rows.split == "excluded"]
    _show(excluded, source, output.with_name(f"{output.name}.excluded.csv"))
    if not len(used):
        raise ScanError(f"--input={source}: none of {len(excluded)} scans could be used, see {output}.excluded.csv.")
    system, variables = _networks(workdir, config, SampleSource(config.data.store, used))
    fitted = _fitted(workdir, config)
    about = ["source", "patient", "session", *(["slice"] if len(config.data.size) == 2 else []), "position"]
    parts = export.embedded(
        make_embed(system, make_mesh()),
        variables,
        lambda some: SampleSource(config.data.store, used.loc[some.index]),
        used[about].astype({"slice": int} if "slice" in about else {}),
        -(-config.score.batch_size // jax.device_count()) * jax.device_count(),
        fitted,
    )
    export.write(output, parts)
    return f"{output}: {len(used)} rows of {used.source.nunique()} scans, {len(fitted[0].mean)} dimensions"


def _config(workdir: Path, brain_from: str | None, store: str | None) -> ConfigDict:
    """The config of a finished run, for scans that may be unusable."""
    config = read_config(workdir)
    if not Run(config, workdir).finished:
        raise RunError(f"--run={workdir}: not a finished run; see it through with `symnorm train` first.")
    changes = {"brain": brain_from or config.data.brain, "store": store or config.data.store, "strict": False}
    config.data.update(changes)
    brain.check(config.data.brain, config.data.extractor)
    if config.data.midline == "template":
        template.check_installed()
    return config


def _scans(source: Path) -> list[Scan]:
    """The scans of a folder, a manifest or a file. Raises ScanError where there are none."""
    if not source.exists():
        raise ScanError(f"--input={source}: there is no such file or folder.")
    ending = source.name.lower()
    if source.is_file() and ending.endswith(".csv"):
        scans = table.records(str(source), labels=False)
    elif source.is_dir() or ending.endswith(folder.ENDINGS):
        scans = folder.records(source)
    else:
        raise ScanError(f"--input={source}: a folder, a .csv manifest, or a scan, {folder.ENDINGS}, is needed.")
    if not scans:
        raise ScanError(f"--input={source}: holds no scan; files that end in one of {folder.ENDINGS} are looked for.")
    return scans


def _prepared(scans: list[Scan], config: ConfigDict, source: Path) -> pd.DataFrame:
    """The samples of the scans as rows of a manifest, whose `source` is as seen from the input."""
    if config.brain == "file" and not any(len(scan.extras) for scan in scans):
        raise ScanError(
            f"--input={source}: no scan has a brain mask file, as the run expects; --brain=extract, nonzero or head "
            "does without, and a manifest can name some in its column brain_path."
        )
    rows = store_scans(scans, config)
    top = source if source.is_dir() else source.parent
    return rows.assign(source=[os.path.relpath(one, top) for one in rows.source])


def _show(excluded: pd.DataFrame, source: Path, path: Path) -> None:
    """Show and write what could not be used, with the reasons."""
    listed = excluded[["source", "patient", "session"]].assign(reason=excluded.exclusion)
    if len(listed):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, listed.to_csv(index=False))
    else:
        path.unlink(missing_ok=True)
    masks = folder.find(source)[1] if source.is_dir() else []
    notes = [f"{len(masks)} files are masks or label maps by their names and were passed over."] if masks else []
    cohort.show({"Left out": [list(listed), *listed.values.tolist()]}, notes)


def _networks(workdir: Path, config: ConfigDict, samples: SampleSource) -> tuple[System, Variables]:
    """The system of a run, with the networks it has trained; `samples` give the shapes."""
    system = BUILD[config.system](config)
    batch = next(scoring_batches(samples, jax.device_count()))
    share = {name: batch[name] for name in ("image", "brain", "index", "valid")}
    return system, restored(str(workdir), system, initial_variables(system, config, share, make_mesh()))


def _fitted(workdir: Path, config: ConfigDict) -> export.Fitted:
    """The Gaussian of a run, and what gives its predictions the unit of the people it was trained on."""
    gaussian = mahalanobis.load(workdir / "gaussian.npz")
    if not target_of(config):
        return gaussian, None
    section = config.target
    training = targets.training_rows(read_manifest(workdir / "manifest.csv"), config)
    scale = targets.scale_of(training, section)
    return gaussian, lambda predicted: targets.restored(predicted, section, scale)
