"""Turn the weights of 3D-Neuro-SimCLR, or of a Swin-UNETR of MONAI, into a checkpoint that a run can start from.

examples:
  symnorm convert --input=simclr_3d_brain_foundation.tar --output=runs/neuro_simclr
  symnorm train --config=simclr:released --config.data.root=/data/ixi
  symnorm convert --input=model_swinvit.pt --output=runs/swin_unetr --config=saca:full --merging=legacy

The file is no tar archive, whatever its name says: give it as it is. Torch is not needed, and nothing that the file
holds is executed. --config is for weights of other widths, as of a network that was trained elsewhere.
"""

from pathlib import Path

OPTIONS = {
    "--input": {"required": True, "type": Path, "help": "the file of torch"},
    "--output": {"required": True, "type": Path, "help": "the folder for the checkpoint"},
    "--merging": {"help": "of a Swin: legacy, of MONAI before 1.5, fixed, of later ones, or v2"},
    "--config": {"default": "simclr:full", "help": "the notebook whose networks the weights are for"},
}


def run(args) -> None:
    from symnorm_jax import notebooks
    from symnorm_jax.convert.weights import convert

    origin = convert(args.input, args.output, notebooks.read(args.config, args.settings).config, args.merging)
    which = "the release" if origin["released"] else "not the release, or one without a sum that is known"
    print(f"{args.output}: {origin['arrays']} arrays of a file of sha256 {origin['sha256']}: {which}")
