"""Embeddings as a table for other programs: Parquet, CSV or npz, written whole or not at all."""

from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.files import whole
from symnorm_jax.scoring.embed import Embedder
from symnorm_jax.scoring.mahalanobis import Gaussian, distance
from symnorm_jax.scoring.scores import of_arrays, own

ROWS = 4096  # that are held at a time, and the rest of their last scan
Fitted = tuple[Gaussian, Callable | None]  # the latter takes what is predicted, [N], to the unit of the target


class Part(NamedTuple):
    """Some rows of the table."""

    about: pd.DataFrame  # N rows: what is known of each sample
    z: np.ndarray  # [N, D] float32
    scores: dict[str, np.ndarray]  # each [N]


def embedded(embedder: Embedder, rows: pd.DataFrame, columns: list[str], fitted: Fitted) -> Iterator[Part]:
    """Embed `rows` of a manifest, whole scans together, with own scores, `mahalanobis`, and `predicted`."""
    gaussian, in_unit = fitted
    for part in _whole_scans(rows):
        some, what = part[columns], f"up to {part.index[-1] + 1} of {len(rows)}"
        arrays = embedder.split(part, what, pictures=False)
        scores = {name: x for name, x in of_arrays(arrays).items() if own(name)}
        scores["mahalanobis"] = np.asarray(distance(gaussian, arrays["z"]))
        if in_unit:
            scores["predicted"] = in_unit(arrays["predicted"])
        yield Part(some, np.asarray(arrays["z"], np.float32), scores)


def _whole_scans(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Divide a manifest, in which scans follow one another, into parts of about ROWS rows."""
    first = np.arange(len(rows))[~rows.duplicated("store")]
    starts = [*first[np.diff(first // ROWS, prepend=-1) > 0], len(rows)]
    return (rows.iloc[start:stop] for start, stop in pairwise(starts))


def check_output(path: Path, source: Path, overwrite: bool) -> None:
    """Raise ConfigError for a file that cannot be written, RunError for one that is there or is the input `source`."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    for wrong, error, why in (
        (path.suffix.lower() not in WRITERS, ConfigError, f"a name that ends in one of {sorted(WRITERS)} is needed"),
        (not above.is_dir(), ConfigError, f"{above} is a file; a folder is needed"),
        (path.is_dir(), ConfigError, "is a folder; a file is needed"),
        (path.exists() and not overwrite, RunError, "is there already; --overwrite replaces it"),
        (path.exists() and source.exists() and path.samefile(source), RunError, "is the input; another file is needed"),
    ):
        if wrong:
            raise error(f"--output={path}: {why}.")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write(path: Path, parts: Iterator[Part]) -> None:
    """Write parts, one or more, as `path` is named: `about`, `z000` and on, or in npz `z` `[N, D]`, then the scores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        WRITERS[path.suffix.lower()](partial, parts)


def _frame(part: Part) -> pd.DataFrame:
    dim, index = part.z.shape[1], part.about.index
    names = [f"z{i:0{max(3, len(str(dim - 1)))}d}" for i in range(dim)]
    return pd.concat([part.about, pd.DataFrame(part.z, index, names), pd.DataFrame(part.scores, index)], axis=1)


def _csv(path: Path, parts: Iterator[Part]) -> None:
    for i, part in enumerate(parts):
        _frame(part).to_csv(path, mode="a", header=i == 0, index=False)


def _parquet(path: Path, parts: Iterator[Part]) -> None:
    arrow, parquet = _pyarrow()
    tables = (arrow.Table.from_pandas(_frame(part), preserve_index=False) for part in parts)
    first = next(tables)
    with parquet.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _npz(path: Path, parts: Iterator[Part]) -> None:
    found = list(parts)
    about = pd.concat([part.about for part in found])
    arrays = {name: x.to_numpy() for name, x in about.items()}
    for name in about.select_dtypes(exclude=["number", "bool"]):
        arrays[name] = arrays[name].astype(object).astype(str)  # of fixed width, which needs no pickle
    arrays |= {"z": np.concatenate([part.z for part in found])}
    arrays |= {name: np.concatenate([part.scores[name] for part in found]) for name in found[0].scores}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _pyarrow():
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError("--output: Parquet needs pyarrow: pip install -e '.[parquet]'") from None
    return pyarrow, parquet


WRITERS = {".parquet": _parquet, ".csv": _csv, ".npz": _npz}
