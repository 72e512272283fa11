"""The two halves of `symnorm score`: scans embedded by a finished run, and maps of a run carried back to its scans."""

import os
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import brain, manifest, targets, template
from symnorm_jax.data.finding import as_configured, find_scans
from symnorm_jax.data.pipeline import scoring_batches
from symnorm_jax.data.prepare import store_scans
from symnorm_jax.data.sources import folder, table
from symnorm_jax.data.store import SampleSource
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import RunError, ScanError
from symnorm_jax.files import load_arrays, write_text
from symnorm_jax.progress import progress
from symnorm_jax.report import cohort
from symnorm_jax.run import Run
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring import export, mahalanobis, native
from symnorm_jax.scoring.embed import Embedder
from symnorm_jax.settings import contrasts, contrasts_of, target_of
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training import passes
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.train import initial_variables
from symnorm_jax.training.transfer import restored

MAPPED = ("test", manifest.UNLABELLED)  # splits whose maps are carried back


def embed(workdir: Path, source: Path, output: Path, brain_from: str | None, store: str | None, overwrite: bool) -> str:
    """Embed the scans of `source`, without split or label, into the table `output`; say what was written.

    Raises RunError for a run that is not finished, and ScanError where no scan can be used.
    """
    export.check_output(output, source, overwrite)
    config = _config(workdir, brain_from, store)
    rows = _prepared(source, config)
    used, excluded = rows[rows.split != "excluded"], rows[rows.split == "excluded"]
    _show(excluded, source, output.with_name(f"{output.name}.excluded.csv"))
    if not len(used):
        raise ScanError(f"--input={source}: none of {len(excluded)} scans could be used, see {output}.excluded.csv.")
    fitted, slices = _fitted(workdir, config), len(config.data.size) == 2
    system, variables = _networks(workdir, config, SampleSource(config.data.store, used))
    columns = ["source", "patient", "session", *(["slice"] if slices else []), "position"]
    healthy = passes.healthy_of(workdir, config) if system.residual else None
    embedder = Embedder(system, config, variables, healthy, make_mesh())
    used = used.astype({"slice": int})
    export.write(output, export.embedded(embedder, used, columns, fitted))
    return f"{output}: {len(used)} rows of {used.source.nunique()} scans, {len(fitted[0].mean)} dimensions"


def _config(workdir: Path, brain_from: str | None, store: str | None) -> ConfigDict:
    config = read_config(workdir)
    if not Run(config, workdir).finished:
        raise RunError(f"--run={workdir}: not a finished run; see it through with `symnorm train` first.")
    data = config.data
    data.update({"brain": brain_from or data.brain, "store": store or data.store, "strict": False})
    brain.check(data.brain, data.extractor)
    if data.midline == "template":
        template.check_installed()
    return config


def _scans(source: Path, columns: str) -> list[Scan]:
    """List the scans of a folder, a manifest or a file. Raises ScanError where there are none.

    Of a manifest the images stand in `columns`, as in `data.options.channel`; several contrasts need one.
    """
    if not source.exists():
        raise ScanError(f"--input={source}: there is no such file or folder.")
    ending = source.name.lower()
    if source.is_file() and ending.endswith(".csv"):
        scans = table.records(str(source), channel=columns, labels=False)
    elif len(contrasts(columns)) > 1:
        raise ScanError(f"--input={source}: the run has several contrasts; a .csv with columns {columns} is needed.")
    elif source.is_dir() or ending.endswith(folder.ENDINGS):
        scans = folder.records(source)
    else:
        raise ScanError(f"--input={source}: a folder, a .csv manifest, or a scan, {folder.ENDINGS}, is needed.")
    if not scans:
        raise ScanError(f"--input={source}: holds no scan; files that end in one of {folder.ENDINGS} are looked for.")
    return scans


def _prepared(source: Path, run: ConfigDict) -> pd.DataFrame:
    """Cut the samples of the scans; rows of a manifest, whose `source` is as seen from the input."""
    config, names = run.data, contrasts_of(run)
    columns = ",".join(names) if len(names) > 1 or run.data.source == "table" else "path"
    scans, top = _scans(source, columns), source if source.is_dir() else source.parent
    if config.brain == "file" and not any(len(scan.extras) for scan in scans):
        how = "--brain=extract, nonzero or head does without, and a manifest can name some in its column brain_path"
        raise ScanError(f"--input={source}: no scan has a brain mask file, as the run expects; {how}.")
    rows = store_scans(as_configured(scans, config), config)
    return rows.assign(source=[os.path.relpath(one, top) for one in rows.source])


def _show(excluded: pd.DataFrame, source: Path, path: Path) -> None:
    listed = excluded[["source", "patient", "session"]].assign(reason=excluded.exclusion)
    if len(listed):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, listed.to_csv(index=False))
    else:
        path.unlink(missing_ok=True)
    masks = folder.find(source)[1] if source.is_dir() else []
    notes = [f"{len(masks)} files are masks or label maps by their names and were passed over."] if masks else []
    cohort.show([("Left out", list(listed), listed.values.tolist())], notes)


def _networks(workdir: Path, config: ConfigDict, samples: SampleSource) -> tuple[System, Variables]:
    """Give the system of a run, with the networks it has trained; `samples` give the shapes."""
    system = BUILD[config.system](config)
    batch = next(scoring_batches(samples, jax.device_count()))
    share = {name: batch[name] for name in ("image", "brain", "index", "valid")}
    return system, restored(str(workdir), system, initial_variables(system, config, share, make_mesh()))


def _fitted(workdir: Path, config: ConfigDict) -> export.Fitted:
    """Give the Gaussian of a run, and what gives its predictions the unit of the people it was trained on."""
    gaussian, section = mahalanobis.load(workdir / "gaussian.npz"), target_of(config)
    if not section:
        return gaussian, None
    training = targets.training_rows(manifest.read_manifest(workdir / "manifest.csv"), config)
    restore = partial(targets.restored, section=section, scale=targets.scale_of(training, section))
    return gaussian, restore


def carry(workdir: Path, output: Path, patients: list[str] | None) -> int:
    """Write the maps of a run and `maps.csv`, and return how many maps there are.

    Raises RunError for a run without maps, for one of `patients` without a map, and for a scan that has gone.
    """
    config = read_config(workdir).data
    paths = [path for split in MAPPED if (path := workdir / "embeddings" / f"{split}.npz").exists()]
    if not paths:
        raise RunError(f"{workdir}: there are no embeddings of the test split; see the run through first.")
    if output.exists() and not output.is_dir():
        raise RunError(f"--output={output}: is a file; a folder is needed.")
    arrays = {path: load_arrays(path, "index", "map") for path in paths}
    for path, found in arrays.items():
        if "map" not in found:
            raise RunError(f"{path}: holds no difference map; a system that makes one is needed.")
    together = {name: np.concatenate([found[name] for found in arrays.values()]) for name in ("index", "map")}
    rows = manifest.read_manifest(workdir / "manifest.csv")
    rows = rows[rows.index.isin(together["index"])]
    scans = _wanted(config, rows, patients)
    written = native.write_maps(scans, rows, together, Path(config.store), output)
    count = len(list(progress(written, "carrying back", len(scans))))
    names = native.file_names(rows)
    there = names[[(output / name).exists() for name in names]]  # also of an earlier call
    write_text(output / "maps.csv", there.rename("file").reset_index().to_csv(index=False))
    return count


def _wanted(config: ConfigDict, rows: pd.DataFrame, patients: list[str] | None) -> list[Scan]:
    unknown = sorted(set(patients or ()) - set(rows.patient))
    if unknown:
        raise RunError(f"--patients={unknown[0]!r}: no map of that patient; {rows.patient.nunique()} others have one.")
    chosen = {visit for visit in zip(rows.patient, rows.session, strict=True) if not patients or visit[0] in patients}
    scans = [scan for scan in find_scans(config) if (scan.patient, scan.session) in chosen]
    lost = chosen - {(scan.patient, scan.session) for scan in scans}
    if lost:
        raise RunError(f"data.root={config.root}: the scan {'/'.join(min(lost))} of the run is no longer there.")
    return scans
