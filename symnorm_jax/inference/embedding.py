"""New scans embedded by a finished run: what `symnorm embed` does."""

import os
from functools import partial
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import brain, manifest, targets, template
from symnorm_jax.data.finding import as_configured
from symnorm_jax.data.prepare import store_scans
from symnorm_jax.data.sources import folder
from symnorm_jax.errors import RunError, ScanError
from symnorm_jax.files import write_text
from symnorm_jax.inference.reading import columns_of, scans_of
from symnorm_jax.report import cohort
from symnorm_jax.run import Run
from symnorm_jax.rundir import GAUSSIAN, MANIFEST, read_config, refuse_judge
from symnorm_jax.scoring import export, mahalanobis
from symnorm_jax.scoring.embed import Embedder
from symnorm_jax.settings import target_of
from symnorm_jax.systems import BUILD
from symnorm_jax.training import passes
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.transfer import restored, shapes_of


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
    system = BUILD[config.system](config)
    variables = restored(str(workdir), system, shapes_of(system, config))
    columns = ["source", "patient", "session", *(["slice"] if slices else []), "position"]
    healthy = passes.healthy_of(workdir, config) if system.residual else None
    embedder = Embedder(system, config, variables, healthy, make_mesh())
    used = used.astype({"slice": int})
    export.write(output, export.embedded(embedder, used, columns, fitted))
    return f"{output}: {len(used)} rows of {used.source.nunique()} scans, {len(fitted[0].mean)} dimensions"


def _config(workdir: Path, brain_from: str | None, store: str | None) -> ConfigDict:
    config = read_config(workdir)
    refuse_judge(workdir, "--run")
    if not Run(config, workdir).finished:
        raise RunError(f"--run={workdir}: not a finished run; see it through with `symnorm train` first.")
    data = config.data
    data.update({"brain": brain_from or data.brain, "store": store or data.store, "strict": False})
    brain.check(data.brain, data.extractor)
    if data.midline == "template":
        template.check_installed()
    return config


def _prepared(source: Path, run: ConfigDict) -> pd.DataFrame:
    """Cut the samples of the scans; rows of a manifest, whose `source` is as seen from the input."""
    config, scans = run.data, scans_of(source, columns=columns_of(run))
    top = source if source.is_dir() else source.parent
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


def _fitted(workdir: Path, config: ConfigDict) -> export.Fitted:
    """Give the Gaussian of a run, and what gives its predictions the unit of the people it was trained on."""
    gaussian, section = mahalanobis.load(workdir / GAUSSIAN), target_of(config)
    if not section:
        return gaussian, None
    training = targets.training_rows(manifest.read_manifest(workdir / MANIFEST), config)
    restore = partial(targets.restored, section=section, scale=targets.scale_of(training, section))
    return gaussian, restore
