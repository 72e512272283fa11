"""Settings of the systems that see whole volumes, of the random views they are trained on, and of their rivals.

Views are those of the release of 3D-Neuro-SimCLR (Kaczmarek et al. 2025), whose volumes are 192 x 192 x 150 voxels.
"""

from ml_collections import ConfigDict

PRESETS = {
    "mae": {"system": "mae"},  # the same encoder, trained to fill in
    "untrained": {"system": "untrained"},  # the same encoder as it was drawn
    "supervised": {"system": "supervised"},  # the same encoder, trained with labels alone
    "cnn": {"system": "supervised", "encoder": "cnn"},  # a smaller one, trained with labels alone
}


def add(config: ConfigDict, stage) -> None:
    """Add what simclr and its rivals need; `stage(steps, batch_size, learning_rate)` makes a section of `train`."""
    config.encoder = "resnet"  # or cnn, for supervised alone
    config.target = ConfigDict()  # what finetune learns to predict
    config.target.column = ""  # of the manifest, from the source: age, sex, site; empty for nothing
    config.target.kind = "number"  # or class
    config.target.positive = ""  # the value that is the class, as F; every other is not
    config.resnet = ConfigDict()
    config.resnet.widths = (64, 128, 256, 512)  # of the levels; the last is that of the embedding
    config.resnet.depths = (2, 2, 2, 2)  # blocks a level
    config.resnet.stem_kernel = 7  # voxels a side
    config.resnet.stem_stride = 1
    config.resnet.norm = "batch"  # or group
    config.cnn = ConfigDict({"widths": (32, 64, 128, 256, 256), "features": 64})  # Peng et al. 2021
    config.mae = ConfigDict({"patch": 16, "ratio": 0.75, "widths": (256, 128, 64)})  # voxels a side; share; of decoder
    config.projector = ConfigDict({"hidden": 512, "out": 64})
    config.contrast = ConfigDict({"temperature": 0.5})
    config.views = views()
    config.train.pretrain = stage(steps=10_000, batch_size=8, learning_rate=3e-4)
    config.train.statistics = stage(steps=50, batch_size=8, learning_rate=0.0)  # of untrained; measures, learns nothing
    config.train.finetune = stage(steps=2000, batch_size=8, learning_rate=1e-4)  # of supervised
    config.finetune.pretrain = stage(steps=500, batch_size=8, learning_rate=3e-5)
    config.finetune.statistics = stage(steps=50, batch_size=8, learning_rate=0.0)
    config.finetune.finetune = stage(steps=2000, batch_size=8, learning_rate=1e-4)


def views() -> ConfigDict:
    config = ConfigDict()
    config.crop = (40 / 192, 40 / 192, 30 / 150)  # least share of each side: x, y, z; (1.0, 1.0, 1.0) for no crop
    config.flip = 0.5  # probability of a left-right flip; it teaches indifference to side
    config.rotate = (0.5, 0.785)  # probability, and the most radians either way, in the axial plane
    config.shift = (0.8, 0.5)  # probability, and the most that is added or taken away; the z-score undoes it
    config.gamma = (0.8, 0.5, 1.5)  # probability, and the range of the exponent
    config.brain = 0.05  # least share of a view that must be brain; 0 asks for one voxel, as the release does
    return config
