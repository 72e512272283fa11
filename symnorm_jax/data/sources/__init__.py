"""The sources by name: each `records(root, **options)` lists the scans it finds, without reading the images."""

from symnorm_jax.data.phantom import people
from symnorm_jax.data.sources import adni, bids, brainmetshare, brats, dicom, ixi, lgg, oasis, open_ms, table

SOURCES = {
    "adni": adni.records,
    "bids": bids.records,
    "brainmetshare": brainmetshare.records,
    "brats": brats.records,
    "dicom": dicom.records,
    "ixi": ixi.records,
    "lgg": lgg.records,
    "oasis": oasis.records,
    "open_ms": open_ms.records,
    "phantom": people.records,
    "table": table.records,
}
