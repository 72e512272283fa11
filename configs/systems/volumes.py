"""3D-Neuro-SimCLR (Kaczmarek et al. 2025), whose volumes are 192 x 192 x 150 voxels, and its rivals."""

from configs.systems.parts import stage

SHARED = {
    "encoder": "resnet",  # or cnn, for supervised alone
    "resnet": {
        "widths": (64, 128, 256, 512),  # of the levels; the last is that of the embedding
        "depths": (2, 2, 2, 2),  # blocks a level
        "stem_kernel": 7,  # voxels a side
        "stem_stride": 1,
        "norm": "batch",  # or group
    },
    "target": {  # what finetune learns to predict
        "column": "",  # of the manifest, from the source: age, sex, site; empty for nothing
        "kind": "number",  # or class
        "positive": "",  # the value that is the class, as F; every other is not
    },
}
LABELLED = {"finetune": stage(steps=2000, batch_size=8, learning_rate=1e-4)}
PRETRAINED = SHARED | {
    "train": {"pretrain": stage(steps=10_000, batch_size=8, learning_rate=3e-4), **LABELLED},
    "finetune": {"pretrain": stage(steps=500, batch_size=8, learning_rate=3e-5), **LABELLED},
}
STATISTICS = {"statistics": stage(steps=50, batch_size=8, learning_rate=0.0)}  # measures, learns nothing
VIEWS = {  # as in the release
    "crop": (40 / 192, 40 / 192, 30 / 150),  # least share of each side: x, y, z; (1.0, 1.0, 1.0) for no crop
    "flip": 0.5,  # probability of a left-right flip; it teaches indifference to side
    "rotate": (0.5, 0.785),  # probability, and the most radians either way, in the axial plane
    "shift": (0.8, 0.5),  # probability, and the most that is added or taken away; the z-score undoes it
    "gamma": (0.8, 0.5, 1.5),  # probability, and the range of the exponent
    "brain": 0.05,  # least share of a view that must be brain; 0 asks for one voxel, as the release does
}
SIMCLR = {"projector": {"hidden": 512, "out": 64}, "contrast": {"temperature": 0.5}, "views": VIEWS}
MAE = {"patch": 16, "ratio": 0.75, "widths": (256, 128, 64)}  # voxels a side; share that is hidden; of the decoder
CNN = {"widths": (32, 64, 128, 256, 256), "features": 64}  # Peng et al. 2021
SETTINGS = {
    "simclr": PRETRAINED | SIMCLR,
    "mae": PRETRAINED | {"mae": MAE},
    "untrained": SHARED | {"train": STATISTICS | LABELLED, "finetune": STATISTICS | LABELLED},
    "supervised": SHARED | {"cnn": CNN, "train": LABELLED, "finetune": LABELLED},
}
TINY = {}  # notebooks of volumes have sizes of their own
PRESETS = {
    "mae": {"system": "mae"},  # the same encoder, trained to fill in
    "untrained": {"system": "untrained"},  # the same encoder as it was drawn
    "supervised": {"system": "supervised"},  # the same encoder, trained with labels alone
    "cnn": {"system": "supervised", "encoder": "cnn"},  # a smaller one, trained with labels alone
}
