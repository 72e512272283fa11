"""Draw the best, the middle and the worst found lesion of a run's test people.

python benchmarks/picture.py --run=runs/ixi --output=docs/lesion.png

Of each person the slice with the highest average precision of the difference map, among slices whose lesion has at
least `--smallest` pixels; people are ordered by it. So the first row is chosen to look well, and the last to look bad.
"""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.metrics import average_precision_score

from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.files import load_arrays
from symnorm_jax.report.gallery import strips


def draw(run: Path, output: Path, smallest: int) -> pd.DataFrame:
    """Draw the picture, and return the slices in it with `precision`, by their rows of the manifest."""
    arrays, rows = load_arrays(run / "embeddings" / "test.npz"), read_manifest(run / "manifest.csv")
    found = {}
    for index, lesion, brain, values in zip(
        *(arrays[name] for name in ("index", "lesion", "brain", "map")), strict=True
    ):
        if (lesion & brain).sum() >= smallest:
            found[index] = average_precision_score(lesion[brain], values[brain])
    table = pd.DataFrame({"patient": rows.patient, "precision": pd.Series(found)}).dropna()
    ordered = table.sort_values("precision", ascending=False).drop_duplicates("patient")
    if ordered.empty:
        raise SystemExit(f"error: {run}: no test slice has a lesion of {smallest} pixels, or none that is drawn.")
    chosen = ordered.iloc[[0, len(ordered) // 2, -1]].assign(shown=["best", "middle", "worst"])
    output.parent.mkdir(parents=True, exist_ok=True)
    strips(chosen, arrays).savefig(output, dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})
    return chosen.assign(of=len(ordered))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--smallest", type=int, default=40)
    print(draw(**vars(parser.parse_args())).to_string())
