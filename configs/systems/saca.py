"""SACA (Ma et al. 2024): a Swin-UNETR's encoder of heads beside their mirror images."""

from configs.systems.parts import stage
from configs.systems.volumes import LABELLED, SHARED

SWIN = {  # as in Swin-UNETR
    "embed": 48,  # width of the patches; each stage doubles it
    "depths": (2, 2, 2, 2),  # blocks a stage
    "heads": (3, 6, 12, 24),
    "window": 7,  # places a side
    "patch": 2,  # voxels a side
    "merging": "fixed",  # or legacy, v2: which corners of 2 x 2 x 2 places are joined
    "clip": "exact",  # or monai: which biases a window reads where the map is smaller than it
    "cross_heads": 12,  # of symmetry-aware cross-attention; 0 for a Swin without it
    "pool": "mean",  # or token, in a corner: what becomes of tokens
}
SACA = {
    **{"symmetry": 0.5, "rotation": 1.0, "contrast": 1.0, "inpaint": 1.0},  # weights of the tasks; 0 leaves one out
    "loss": "bce",  # of symmetry; or linear, scaled, nce
    "symmetry_on": "clean",  # or corrupted: what is compared with the mirror image in training
    "temperature": 0.5,  # of contrast
    "features": 512,  # in which volumes are compared
    "crop": 0,  # voxels a side that training sees; 0 for the whole volume
    "cut": 0.3,  # most that is cut out, a share of the volume
    "blocks": (0.05, 0.25),  # sides of what is cut out, in shares of the volume's
}
SEGMENT = {  # the stage that learns to mark drawn lesions
    "network": "",  # none; light or swin_unetr, decoders of the Swin; or unet, for segmenter alone
    "mirror": "own",  # what volumes are compared with; or average, of all learned from; or none, themselves
    "crop": 0,  # voxels a side of the windows that it sees; 0 for the whole volume
}
SWINS = {"encoder": "swin", "target": SHARED["target"], "swin": SWIN}
MARKING = {"segment": stage(steps=2000, batch_size=4, learning_rate=4e-4)}
SETTINGS = {
    "saca": SWINS
    | {"saca": SACA, "segment": SEGMENT}
    | {
        "train": {"pretrain": stage(steps=10_000, batch_size=8, learning_rate=4e-4), **MARKING, **LABELLED},
        "finetune": {"pretrain": stage(steps=500, batch_size=8, learning_rate=4e-5), **MARKING, **LABELLED},
    },
    "segmenter": SWINS
    | {"segment": SEGMENT | {"network": "light"}, "unet": {"widths": (16, 32, 64, 128), "depth": 1, "stem": 2}}
    | {"train": MARKING, "finetune": MARKING},
}
TINY = {}
TASKS = ("symmetry", "rotation", "contrast", "inpaint")
PARTS = {  # what each part of the method adds
    "no SACA": {"swin.cross_heads": 0},
    **{f"only {task}": {f"saca.{other}": 0.0 for other in TASKS if other != task} for task in TASKS},
    **{f"no {task}": {f"saca.{task}": 0.0} for task in TASKS},
    "corrupted": {"saca.symmetry_on": "corrupted"},
    "token": {"swin.pool": "token"},
}
# It is told who is healthy, and so trains on everyone.
OWN = {"system": "saca", "data.train_on": "everyone", "score.headline": "asymmetry"}
MARKS = OWN | {"score.headline": "highest"}
UNET = {"segment.network": "unet"}
PRESETS = {name: OWN | values for name, values in ({"saca": {}} | PARTS).items()}
PRESETS["segment"] = MARKS | {"segment.network": "light"}  # after pre-training
PRESETS |= {  # what that is compared with
    name: MARKS | {"system": "segmenter"} | values
    for name, values in {
        "segmenter": {},
        "segmenter alone": {"segment.mirror": "none"},  # the same network, which sees no mirror image
        "segmenter average": {"segment.mirror": "average"},  # sees others, and not its own other side
        "unet": UNET,
        "unet average": UNET | {"segment.mirror": "average"},
        "unet alone": UNET | {"segment.mirror": "none"},
    }.items()
}
