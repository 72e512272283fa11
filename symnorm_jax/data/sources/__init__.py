"""The sources by name: each `records(root, **options)` lists the scans it finds, without reading the images."""

from symnorm_jax.data.phantom import people
from symnorm_jax.data.sources import adni, bids, brainmetshare, brats, dicom, ixi, lgg, oasis, open_ms, table

_FILES = (adni, bids, brainmetshare, brats, dicom, ixi, lgg, oasis, open_ms, table)  # each a source by its name
SOURCES = {file.__name__.rpartition(".")[2]: file.records for file in _FILES} | {"phantom": people.records}
