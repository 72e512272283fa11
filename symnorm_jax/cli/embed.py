"""Embed any scans with the networks of a finished run, as a table for other programs.

examples:
  symnorm embed --run=runs/simclr --input=/my/heads --output=embeddings.parquet --brain=extract
  symnorm embed --run=runs/simclr --input=/my/manifest.csv --output=embeddings.csv

The input is a folder, of which every .nii.gz, .nii and .mgz file that is no mask or label map is a scan; a manifest
with the columns of symnorm_jax/data/sources/table.py, where `label` is not needed; or one scan. Scans are prepared as
in the run. Each sample is a row: `source`, the file as seen from the input, `patient`, `session`, for slices
`slice`, `position`, the embedding `z000` and so on, the scores of the system, and `mahalanobis`, the distance to the
run's Gaussian; of a run with a target also `predicted`. An npz file has the embeddings as one array `z`. Scans that
cannot be used are listed with the reason in OUTPUT.excluded.csv; the status is 1 where none can.
"""

from pathlib import Path

OPTIONS = {
    "--run": {"required": True, "type": Path, "help": "the run directory"},
    "-i --input": {"required": True, "type": Path, "help": "a folder of scans, a manifest .csv, or one scan"},
    "-o --output": {"required": True, "type": Path, "help": "a .parquet, .csv or .npz file"},
    "--brain": {"help": "where brain masks come from: file, nonzero, extract, head or auto; as the run"},
    "--store": {"help": "the folder for prepared samples; that of the run unless given"},
    "--overwrite": {"action": "store_true", "help": "replace the output if it is there"},
}


def run(args) -> None:
    from symnorm_jax.cli.compiled import keep_beside
    from symnorm_jax.inference.embedding import embed

    keep_beside(args.run)
    print(embed(args.run, args.input, args.output, args.brain, args.store, args.overwrite))
