"""Score new scans with a finished run or an exported model: a verdict, a map and lesions of each, in its own space.

Research use only. Not a medical device; not for diagnosis.

examples:
  symnorm score -i t1.nii.gz -o out
  symnorm score --run=runs/lgg -i scan.nii.gz --brain=mask.nii.gz -o out
  symnorm score --model=lgg.model -i /my/new_scans.csv -o out --jobs=2
  symnorm score --run=runs/lgg -i scan.nii.gz -o out --adapt=healthy.csv
  symnorm score --run=runs/ixi -i /bids -o /bids/derivatives/symnorm --bids --participant-label 01 02
  symnorm score --run=runs/ixi -i /my/slices -o out --spacing=0.9,0.9,5

Without --run and --model it is the model `ixi_t1`, which comes along: of T1 heads of one hospital; its card says how
little it has been shown to find. A scan of another contrast or kind is `unknown` to it.

The input is a scan (.nii.gz, .nii, .mgz), a folder of scans or of one DICOM series, a manifest .csv with the columns
of symnorm_jax/data/sources/table.py, where `label` is not needed, with --bids a BIDS tree, or with --spacing a folder
of pictures, the slices of one scan (.png, .jpg, .tif), the lowest first by their names. OUT/scores.tsv has a
row a scan, OUT/ID/ its score.json, map.nii.gz, lesions.nii.gz, brain.nii.gz and view.html, a page for any browser;
OUT/index.html leads to the pages, OUT/excluded.tsv says what could not be used and why. The same command goes on where
it stopped. docs/score.md says what a verdict means, and what is not told.

--adapt measures what depends on the scanner anew, on healthy people of one's own: what the healthy show in maps, the
Gaussian, thresholds and ranges; the networks stay. OUT/model is the model that comes of it, and is used.

--brain says where brain masks come from: auto takes the mask that is given, else what is not 0 in a skull-stripped
scan, else an extractor's; or extract, nonzero, head, file; or the file of a mask, for one scan.
"""

from pathlib import Path

from symnorm_jax.cli import at_least_one

ABOUT = "Research use only. Not a medical device; not for diagnosis."
KINDS = ("auto", "extract", "file", "head", "nonzero")
OPTIONS = {
    "-i --input": {"required": True, "type": Path, "help": "a scan, a folder, a manifest .csv or a BIDS tree"},
    "-o --output": {"required": True, "type": Path, "help": "the folder for what comes out"},
    "--run": {"type": Path, "help": "the directory of a finished run"},
    "--model": {"type": Path, "help": "instead: the folder of an exported model, or the name of one that comes along"},
    "--adapt": {"type": Path, "help": "a manifest .csv of 20 or more healthy people of the same scanner"},
    "--brain": {"default": "auto", "help": "auto, extract, nonzero, head, file, or the mask file of one scan"},
    "--jobs": {"type": at_least_one, "default": 1, "help": "processes that read and cut scans"},
    "--bids": {"action": "store_true", "help": "the input is a BIDS tree, and the output one of derivatives"},
    "--spacing": {"metavar": "X,Y,Z", "help": "of pictures: mm left to right, back to front, and between slices"},
    "--colour": {"choices": ("red", "green", "blue"), "help": "with --spacing: the one that holds the contrast"},
    "--dicom": {"action": "store_true", "help": "of a DICOM series: the map and what it shows as DICOM, too"},
    "--participant-label": {"nargs": "+", "default": [], "help": "with --bids: only these, with or without sub-"},
}


def run(args) -> None:
    model = _checked(args)
    print(ABOUT)
    from symnorm_jax.cli.compiled import keep_beside
    from symnorm_jax.inference import adapt, cohort, shipped
    from symnorm_jax.inference.reading import columns_of, scans_of
    from symnorm_jax.inference.scorer import Scorer

    keep_beside(shipped.cache_of(model))
    kind, mask = (args.brain, None) if args.brain in KINDS else ("file", args.brain)
    scorer = Scorer.load(model)
    scans = _scans(args, mask, scorer.model)
    if args.adapt:
        healthy = scans_of(args.adapt, None, columns_of(scorer.model.config))
        adapt.refuse_both(healthy, scans)
        scorer = adapt.adapted(scorer, model, healthy, args.output / "model", kind, args.jobs)
        print(f"{args.output / 'model'}: adapted to {scorer.model.reference['adapted']['people']} healthy people")
    rows = cohort.score(scorer, scans, args.output, kind, args.jobs, args.bids, args.dicom)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in rows.verdict.value_counts().items())
    print(f"{args.output / 'scores.tsv'}: {len(rows)} scans, {counts}; index.html shows them")
    if (args.output / "excluded.tsv").exists():
        print(f"{args.output / 'excluded.tsv'}: what could not be used, and why")


def _scans(args, mask: str | None, model) -> list:
    """List the scans of the input, for a model of its contrasts."""
    from symnorm_jax.data.sources.pictures import spacing_of
    from symnorm_jax.inference import dicom_out
    from symnorm_jax.inference.reading import SUFFIXES, columns_of, only, pictures_of, scans_of

    told = SUFFIXES.get("".join(model.reference["contrast"][:1]), "T1w") if args.bids else None
    columns = columns_of(model.config, told)
    if args.spacing:
        return pictures_of(args.input, spacing_of(args.spacing, "--spacing"), args.colour, mask, columns)
    scans = only(scans_of(args.input, mask, columns, args.bids), args.participant_label)
    if args.dicom:
        dicom_out.check(scans)
    return scans


def _checked(args) -> Path:
    """Give the run or model that is meant; refuse what cannot be right before anything that takes long is imported."""
    from symnorm_jax.inference import shipped

    model = args.run or (shipped.found(args.model) if args.model else shipped.default())
    is_mask = args.brain not in KINDS
    for wrong, sentence in (
        (args.run and args.model, "--run and --model: one of them is allowed."),
        (
            not (model / "config.json").is_file(),
            f"{model}: holds no config.json, as a run and a model do; {', '.join(shipped.names())} comes along.",
        ),
        (not args.input.exists(), f"--input={args.input}: there is no such file or folder."),
        (args.adapt and not (args.adapt.suffix == ".csv" and args.adapt.is_file()), f"--adapt={args.adapt}: no .csv."),
        (args.output.exists() and not args.output.is_dir(), f"--output={args.output}: is a file; a folder is needed."),
        (args.bids and not args.input.is_dir(), f"--input={args.input}: with --bids a folder is needed."),
        (args.participant_label and not args.bids, "--participant-label is allowed with --bids alone."),
        (args.spacing and not args.input.is_dir(), f"--input={args.input}: with --spacing a folder is needed."),
        (args.spacing and args.bids, "--spacing is of pictures, and allowed without --bids alone."),
        (args.dicom and (args.bids or args.spacing), "--dicom is of a DICOM series: not with --bids or --spacing."),
        (args.colour and not args.spacing, "--colour is allowed with --spacing alone."),
        (is_mask and not Path(args.brain).is_file(), f"--brain={args.brain}: one of {KINDS} or a file is allowed."),
        (is_mask and (args.bids or args.input.suffix == ".csv"), "--brain: a mask is given for one scan alone."),
    ):
        if wrong:
            args.refuse(sentence)
    return model
