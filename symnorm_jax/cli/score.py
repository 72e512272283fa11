"""Embed any scans with the networks of a finished run; or carry the difference maps of a run back to its own scans.

examples:
  symnorm score --run=runs/simclr --input=/my/heads --output=embeddings.parquet --brain=extract
  symnorm score --run=runs/simclr --input=/my/manifest.csv --output=embeddings.csv
  symnorm score --run=runs/demo --maps --output=maps --patients=phantom-p0003,phantom-h0007

The input is a folder, of which every .nii.gz, .nii and .mgz file that is no mask or label map is a scan; a manifest
with the columns of symnorm_jax/data/sources/table.py, where `label` is not needed; or one scan. Scans are prepared as
those of the run were. Each sample is a row: `source`, the file as seen from the input, `patient`, `session`, for slices
`slice`, `position`, the embedding `z000` and so on, the scores of the system, and `mahalanobis`, the distance to the
run's Gaussian; of a run with a target also `predicted`. An npz file has the embeddings as one array `z`. Scans that
cannot be used are listed with the reason in OUTPUT.excluded.csv; the status is 1 where none can.

--maps writes PATIENT[_SESSION]_map.nii.gz for the test split and for scans that nobody has labelled, on the voxels of
the scan and in the order in which it is stored. `maps.csv` says which file is whose. Values are those of the maps in
the report; they are 0 where no slice was kept.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from symnorm_jax.cli import comma_list


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--run", required=True, help="the run directory")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-i", "--input", help="a folder of scans, a manifest .csv, or one scan")
    what.add_argument("--maps", action="store_true", help="carry back the run's own maps")
    parser.add_argument("-o", "--output", required=True, help="a .parquet, .csv or .npz file; with --maps a folder")
    parser.add_argument("--brain", help="where brain masks come from: file, nonzero, extract or head; as the run")
    parser.add_argument("--store", help="the folder for prepared samples; that of the run unless given")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it is there")
    parser.add_argument("--patients", type=comma_list, help="with --maps: only these; everybody unless given")


def run(args: Namespace) -> None:
    workdir, output = Path(args.run), Path(args.output)
    if args.maps:
        if args.brain or args.store or args.overwrite:
            args.refuse("--brain, --store and --overwrite are not allowed with --maps.")
        from symnorm_jax.cli.maps import carry

        print(f"{output}: {carry(workdir, output, args.patients)} maps")
        return
    if args.patients:
        args.refuse("--patients is allowed with --maps alone.")
    from symnorm_jax.cli.embedding import config_of, embed
    from symnorm_jax.scoring.export import check_output

    check_output(output, Path(args.input), args.overwrite)
    print(embed(workdir, Path(args.input), output, config_of(workdir, args.brain, args.store)))
