"""The releases by name; each file's `records(root, **options)` lists the scans it finds, without reading the images."""

from symnorm_jax.data.sources import (
    adni,
    atlas,
    bids,
    brainmetshare,
    brats,
    dicom,
    ixi,
    lgg,
    oasis,
    open_ms,
    phantom,
    table,
)

_ALL = (adni, atlas, bids, brainmetshare, brats, dicom, ixi, lgg, oasis, open_ms, phantom, table)
SOURCES = {module.__name__.rpartition(".")[2]: module.records for module in _ALL}
