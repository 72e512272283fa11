"""The releases by name; each file's `records(root, **options)` lists the scans it finds, without reading the images."""

from symnorm_jax.data.sources import ixi, lgg, phantom, table

SOURCES = {"ixi": ixi.records, "lgg": lgg.records, "phantom": phantom.records, "table": table.records}
