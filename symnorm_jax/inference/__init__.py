"""Score scans with a finished model: from a file on a disk to a verdict and a map."""
