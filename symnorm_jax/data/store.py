"""The store of prepared samples: one ArrayRecord file per scan, and one JSON file of what is known of its samples.

Files are named by the hash of the scan and its settings, so runs share them and none goes stale. A scan's JSON is
written last: where it stands, the scan is whole.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from array_record.python.array_record_module import ArrayRecordWriter
from grain.sources import ArrayRecordDataSource

from symnorm_jax.files import read_json, whole, write_json

Prior = tuple[str, int]  # where shares of tissue come from, labels or atlas, and of how many classes


def write(folder: Path, key: str, arrays: np.ndarray, about: dict) -> None:
    """Store the samples `[N, *S, C + 2]` of one scan and `about`, any JSON, under `key`."""
    _write(folder / f"{key}.array_record", arrays.astype("<f2"))
    write_json(folder / f"{key}.json", about)


def write_prior(folder: Path, key: str, prior: Prior, shares: np.ndarray) -> None:
    """Store the shares of K tissues `[N, X, Y, K]`, 0 to 1, of the slices of one scan, in a file of their own."""
    _write(_prior_file(folder, key, prior), np.round(255 * shares).astype(np.uint8))


def _write(path: Path, arrays: np.ndarray) -> None:
    sides = np.array(arrays.shape[1:-1], "<u2").tobytes()
    with whole(path) as partial:
        writer = ArrayRecordWriter(str(partial), "group_size:1")
        for array in arrays:
            # Not numpy.save: numpy.load reads a header with Python's parser, which fails now and then in CPython 3.11
            # when several threads of the loader enter it together.
            writer.write(sides + array.tobytes())
        writer.close()


def _prior_file(folder: str | Path, key: str, prior: Prior) -> Path:
    kind, classes = prior
    return Path(folder) / f"{key}.{kind}{classes}.array_record"


def read_about(folder: Path, key: str) -> dict | None:
    """Read what `write` was told of a scan, or None where it is not in the store."""
    return read_json(folder / f"{key}.json") if _has(folder, key) else None


def holds(folder: str | Path, rows: pd.DataFrame) -> bool:
    """Look whether every sample of a manifest is still in the store."""
    return all(_has(Path(folder), key) for key in rows.store[rows.split != "excluded"].unique())


def without_prior(folder: str | Path, rows: pd.DataFrame, prior: Prior | None) -> pd.DataFrame:
    """List the rows of a manifest whose shares of tissue are asked for and not in the store."""
    lacking = [key for key in rows.store.unique() if not has_prior(folder, key, prior)] if prior else []
    return rows[rows.store.isin(lacking)]


def has_prior(folder: Path, key: str, prior: Prior) -> bool:
    """Look whether the shares of tissue of a scan are in the store."""
    return _prior_file(folder, key, prior).exists()


def _has(folder: Path, key: str) -> bool:
    return (folder / f"{key}.json").exists() and (folder / f"{key}.array_record").exists()


def _unpacked(record: bytes) -> np.ndarray:
    """Unpack a sample of two sides, or of three where whole arrays of two do not account for the record's length."""
    for rank in (2, 3):
        sides = np.frombuffer(record, "<u2", rank)
        values = np.frombuffer(record, "<f2", offset=sides.nbytes)
        count, rest = divmod(values.size, max(math.prod(sides.tolist()), 1))
        if count >= 3 and not rest:
            return values.reshape(*sides, count)
    raise ValueError(f"a record of {len(record)} bytes is neither a slice nor a volume")


class SampleSource:
    """Random access to the stored samples of a table, for Grain; element i belongs to row i of the table.

    It has `image` `[*S, C]` and `brain` `[*S, 1]` float32, `lesion` `[*S]` bool, `index`, the row's label in the
    manifest, `patient`, a number for each in the table, `target` where `targets` `[N]` are given, and where there are
    maps `[N, *S]`, `difference` `[*S, 1]` float32. Samples that are in hand, `held` `[N, *S, C + 2]`, need no store.
    Where shares of tissue are asked for, to train on, `prior` `[X, Y, K]` float32 has them; where `labels` are,
    `healthy` is 1 of healthy people and 0 of others.
    """

    def __init__(
        self,
        folder: str | Path,
        rows: pd.DataFrame,
        targets: np.ndarray | None = None,
        differences: np.ndarray | None = None,
        held: np.ndarray | None = None,
        prior: Prior | None = None,
        labels: bool = False,
    ):
        self._index, self._targets, self._differences, self._held = rows.index.to_numpy(), targets, differences, held
        self._patient = np.unique(rows.patient.to_numpy(str), return_inverse=True)[1]
        self._healthy = rows.healthy_person.to_numpy(bool) if labels else None
        self._priors = None
        if held is not None:
            return
        keys, first, scan = np.unique(rows.store.to_numpy(), return_index=True, return_inverse=True)
        self._records = ArrayRecordDataSource([f"{folder}/{key}.array_record" for key in keys])
        self._priors = ArrayRecordDataSource([str(_prior_file(folder, key, prior)) for key in keys]) if prior else None
        sizes = rows.records_in_scan.to_numpy()[first]
        self._place = ((np.cumsum(sizes) - sizes)[scan] + rows.record.to_numpy()).astype(int)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        array = _unpacked(self._records[int(self._place[i])]) if self._held is None else self._held[i]
        image, brain, lesion = np.split(array.astype(np.float32), [-2, -1], -1)
        known = {} if self._targets is None else {"target": np.float32(self._targets[i])}
        if self._healthy is not None:
            known["healthy"] = np.float32(self._healthy[i])
        if self._differences is not None:
            known["difference"] = self._differences[i].astype(np.float32)[..., None]
        if self._priors is not None:
            shares = np.frombuffer(self._priors[int(self._place[i])], np.uint8, offset=2 * np.dtype("<u2").itemsize)
            known["prior"] = shares.reshape(*brain.shape[:2], -1) / np.float32(255)
        known |= {"index": np.int32(self._index[i]), "patient": np.int32(self._patient[i])}
        return known | {"image": image, "brain": brain, "lesion": lesion[..., 0] > 0}
