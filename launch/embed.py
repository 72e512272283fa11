"""Embed any scans with the networks of a finished run: no training, no split, no label.

python launch/embed.py --run=runs/simclr --input=/my/heads --output=embeddings.parquet --brain=extract
python launch/embed.py --run=runs/simclr --input=/my/manifest.csv --output=embeddings.csv

The input is a folder, of which every .nii.gz, .nii and .mgz file that is no mask or label map is a scan; a manifest
with the columns of symnorm_jax/data/sources/table.py, where `label` is not needed; or one scan. Scans are prepared as
those of the run were. Each sample is a row: `source`, the file as seen from the input, `patient`, `session`, for slices
`slice`, `position`, the embedding `z000` and so on, the scores of the system, and `mahalanobis`, the distance to the
run's Gaussian; of a run with a target also `predicted`. An npz file has the embeddings as one array `z`.

Scans that cannot be used are listed with the reason in `<output>.excluded.csv`. It ends with status 1 where none can.
"""

import os
from pathlib import Path

import jax
import pandas as pd
from absl import app, flags, logging
from ml_collections import ConfigDict

from symnorm_jax.data import brain, targets, template
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.pipeline import scoring_batches
from symnorm_jax.data.prepare import store_scans
from symnorm_jax.data.sources import folder, table
from symnorm_jax.data.store import SampleSource
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import RunError, ScanError, reported
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

_RUN = flags.DEFINE_string("run", None, "The run directory.", required=True)
_INPUT = flags.DEFINE_string("input", None, "A folder of scans, a manifest .csv, or one scan.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The table to write: .parquet, .csv or .npz.", required=True)
_BRAIN = flags.DEFINE_string("brain", None, "Where brain masks come from: file, nonzero, extract or head; as the run.")
_STORE = flags.DEFINE_string("store", None, "The folder for prepared samples; that of the run unless given.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the output if it is there.")


def config_of(workdir: Path, brain_from: str | None, store: str | None) -> ConfigDict:
    """The config of a finished run, for scans that may be unusable. RunError where it is not finished."""
    config = read_config(workdir)
    if not Run(config, workdir).finished:
        raise RunError(f"--run={workdir}: not a finished run; see it through with launch/train.py first.")
    changes = {"brain": brain_from or config.data.brain, "store": store or config.data.store, "strict": False}
    config.data.update(changes)
    brain.check(config.data.brain, config.data.extractor)
    if config.data.midline == "template":
        template.check_installed()
    return config


def find_scans(source: Path) -> list[Scan]:
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


def prepared(scans: list[Scan], config: ConfigDict, source: Path) -> pd.DataFrame:
    """The samples of the scans as rows of a manifest, `source` as seen from the input `source`."""
    if config.brain == "file" and not any(len(scan.extras) for scan in scans):
        raise ScanError(
            f"--input={source}: no scan has a brain mask file, as the run expects; --brain=extract, nonzero or head "
            "does without, and a manifest can name some in its column brain_path."
        )
    rows = store_scans(scans, config)
    top = source if source.is_dir() else source.parent
    return rows.assign(source=[os.path.relpath(one, top) for one in rows.source])


def networks(workdir: Path, config: ConfigDict, samples: SampleSource) -> tuple[System, Variables]:
    """The system of a run, with the networks it has trained; `samples` give the shapes."""
    system = BUILD[config.system](config)
    batch = next(scoring_batches(samples, jax.device_count()))
    share = {name: batch[name] for name in ("image", "brain", "index", "valid")}
    return system, restored(str(workdir), system, initial_variables(system, config, share, make_mesh()))


def fitted_of(workdir: Path, config: ConfigDict) -> export.Fitted:
    """The Gaussian of a run, and what gives its predictions the unit of the people it was trained on."""
    gaussian, section = mahalanobis.load(workdir / "gaussian.npz"), target_of(config)
    if not section:
        return export.Fitted(gaussian, None)
    training = targets.training_rows(read_manifest(workdir / "manifest.csv"), config)
    scale = targets.scale_of(training, section)
    return export.Fitted(gaussian, lambda predicted: targets.restored(predicted, section, scale))


def tell(excluded: pd.DataFrame, source: Path, path: Path) -> None:
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


def embed(workdir: Path, source: Path, output: Path, config: ConfigDict) -> str:
    """Embed the scans of `source` into the table `output`; a sentence on what was written.

    Raises ScanError where no scan can be used.
    """
    rows = prepared(find_scans(source), config.data, source)
    used, excluded = rows[rows.split != "excluded"], rows[rows.split == "excluded"]
    tell(excluded, source, output.with_name(f"{output.name}.excluded.csv"))
    if not len(used):
        raise ScanError(f"--input={source}: none of {len(excluded)} scans could be used, see {output}.excluded.csv.")
    system, variables = networks(workdir, config, SampleSource(config.data.store, used))
    fitted = fitted_of(workdir, config)
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
    return f"{output}: {len(used)} rows of {used.source.nunique()} scans, {len(fitted.gaussian.mean)} dimensions"


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells long stories
    workdir, source, output = Path(_RUN.value), Path(_INPUT.value), Path(_OUTPUT.value)
    with reported():
        export.check_output(output, source, _OVERWRITE.value)
        print(embed(workdir, source, output, config_of(workdir, _BRAIN.value, _STORE.value)))


if __name__ == "__main__":
    app.run(main)
