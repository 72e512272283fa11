"""Write synthetic people to disk as a release is laid out, to try everything before you have the release.

python launch/phantoms.py --layout=brainmetshare --output=/tmp/mets --people=40
"""

from absl import app, flags, logging

from symnorm_jax.data.phantom import layouts
from symnorm_jax.errors import reported

_LAYOUT = flags.DEFINE_enum("layout", None, sorted(layouts.LAYOUTS), "The release.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "A new or empty folder.", required=True)
_PEOPLE = flags.DEFINE_integer("people", 40, "How many people.")
_SPACING = flags.DEFINE_float("spacing", 3.0, "Edge of a voxel in mm.")
_SEED = flags.DEFINE_integer("seed", 0, "Another seed makes other people.")


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)
    with reported():
        root = layouts.write(_LAYOUT.value, _OUTPUT.value, _PEOPLE.value, _SPACING.value, _SEED.value)
    print(f"{root}: {_PEOPLE.value} people, to be given as --config.data.root={root}")


if __name__ == "__main__":
    app.run(main)
