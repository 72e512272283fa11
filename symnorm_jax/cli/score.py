"""Embed any scans with the networks of a finished run; or carry the difference maps of a run back to its own scans.

examples:
  symnorm score --run=runs/simclr --input=/my/heads --output=embeddings.parquet --brain=extract
  symnorm score --run=runs/simclr --input=/my/manifest.csv --output=embeddings.csv
  symnorm score --run=runs/demo --maps --output=maps --patients=phantom-p0003,phantom-h0007

The input is a folder, of which every .nii.gz, .nii and .mgz file that is no mask or label map is a scan; a manifest
with the columns of symnorm_jax/data/sources/table.py, where `label` is not needed; or one scan. Scans are prepared as
in the run. Each sample is a row: `source`, the file as seen from the input, `patient`, `session`, for slices
`slice`, `position`, the embedding `z000` and so on, the scores of the system, and `mahalanobis`, the distance to the
run's Gaussian; of a run with a target also `predicted`. An npz file has the embeddings as one array `z`. Scans that
cannot be used are listed with the reason in OUTPUT.excluded.csv; the status is 1 where none can.

--maps writes PATIENT[_SESSION]_map.nii.gz for the test split and for scans that nobody has labelled, on the voxels of
the scan and in the order in which it is stored. `maps.csv` says which file is whose. Values are as in the maps of
the report; they are 0 where no slice was kept.
"""

from pathlib import Path

from symnorm_jax.cli import comma_list

OPTIONS = {
    "--run": {"required": True, "type": Path, "help": "the run directory"},
    "-i --input": {"type": Path, "help": "a folder of scans, a manifest .csv, or one scan"},
    "--maps": {"action": "store_true", "help": "instead of --input: carry back the run's own maps"},
    "-o --output": {"required": True, "type": Path, "help": "a .parquet, .csv or .npz file; with --maps a folder"},
    "--brain": {"help": "where brain masks come from: file, nonzero, extract, head or auto; as the run"},
    "--store": {"help": "the folder for prepared samples; that of the run unless given"},
    "--overwrite": {"action": "store_true", "help": "replace the output if it is there"},
    "--patients": {"type": comma_list, "help": "with --maps: only these; everybody unless given"},
}


def run(args) -> None:
    if bool(args.input) == args.maps or (args.maps and (args.brain or args.store or args.overwrite)):
        args.refuse("either --input, perhaps with --brain, --store and --overwrite, or --maps is needed.")
    if args.patients and not args.maps:
        args.refuse("--patients is allowed with --maps alone.")
    from symnorm_jax.cli.scans import carry, embed

    if args.maps:
        print(f"{args.output}: {carry(args.run, args.output, args.patients)} maps")
    else:
        print(embed(args.run, args.input, args.output, args.brain, args.store, args.overwrite))
