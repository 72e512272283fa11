"""Write synthetic people to disk as a release is laid out, to try everything before you have the release.

example:
  symnorm phantom --layout=brainmetshare --output=/tmp/mets --people=40
"""

OPTIONS = {
    "--layout": {"required": True, "help": "the release: adni, brainmetshare or brats"},
    "--output": {"required": True, "help": "a new or empty folder"},
    "--people": {"type": int, "default": 40, "help": "how many people; 40 unless given"},
    "--spacing": {"type": float, "default": 3.0, "help": "edge of a voxel in mm; 3 unless given"},
    "--seed": {"type": int, "default": 0, "help": "another seed makes other people"},
}


def run(args) -> None:
    from symnorm_jax.data.phantom import layouts

    root = layouts.write(args.layout, args.output, args.people, args.spacing, args.seed)
    print(f"{root}: {args.people} people, to be given as --config.data.root={root}")
