"""dal, a re-derivation of disentangled anatomy learning, on 64 x 64 slices."""

from configs.systems.parts import DIFFERENCE, PATCH, stage

BRANCH = {"depth": 1, "stem": 2}
SETTINGS = {
    "dal": {
        "mask": {"patch": PATCH},  # maps are embedded by patch
        "anatomy": {
            "classes": 4,  # of the prior's labels
            "passes": 2,  # rounds of imaging information and anatomy; 0 for a plain U-Net of the image
            "onehot": "straight_through",  # or gumbel, soft
            "where": (16, 32, 48),  # widths of the network that sees the outline alone
            "widths": (48, 96, 192),
            **BRANCH,
            "prior": "labels",  # of tissue, seen in training alone; or atlas, of 3 classes, or none
            "invariance": 0.5,  # weight of how much two contrasts of a slice differ in anatomy
            "cross": 0.5,  # weight of how ill the anatomy of one paints the other
        },
        "contrast": {  # how contrasts are changed in training
            "unchanged": 0.15,  # probability; 1 for no change
            "repaint": 0.5,  # probability that classes are painted anew, and not intensities sent through a curve
            "monotone": 0.4,  # probability that a curve only rises or falls
            "knots": 6,
            "bias": 0.12,  # deviation of the log of a coil's field
            "noise": 0.02,  # in shares of the brain's range
        },
        "restore": {
            "edges": "boundary",  # or none: the anatomy itself, skip: nothing is restored
            "widths": (48, 96, 128, 192),
            **BRANCH,
            "blobs": 3,  # how often the anatomy is corrupted in training
            "paint": 0.6,  # probability that a blob becomes one class
            "erase": 0.4,  # probability that the edges in another are lost
            "radii": (6.0, 40.0),  # mm
        },
        "recouple": {
            "kind": "network",  # or table: one intensity a class
            "imaging": "restored",  # or seen: the anatomy under which imaging information is measured
            "widths": (32, 64, 128),
            **BRANCH,
        },
        # What raw maps are in: the deviation that imaging information expects, or the data's own intensity.
        "difference": DIFFERENCE | {"unit": "imaging"},
        "train": {
            "anatomy": stage(steps=6000, batch_size=8, learning_rate=2e-3),
            "restore": stage(steps=4000, batch_size=8, learning_rate=2e-3),
            "recouple": stage(steps=6000, batch_size=8, learning_rate=2e-3),
        },
        "finetune": {
            "anatomy": stage(steps=500, batch_size=8, learning_rate=2e-4),
            "restore": stage(steps=500, batch_size=8, learning_rate=2e-4),
            "recouple": stage(steps=500, batch_size=8, learning_rate=2e-4),
        },
    }
}
TINY = {"anatomy.passes": 1, "anatomy.where": (8,), "anatomy.widths": (8, 16)}
TINY |= {"restore.widths": (8, 16), "recouple.widths": (8, 16)}
PARTS = {  # what each part of the method adds: one is changed at a time
    "no disentanglement": {"contrast.unchanged": 1.0, "anatomy.passes": 0},
    "no alternation": {"anatomy.passes": 0},
    "no one-hot": {"anatomy.onehot": "soft"},
    "atlas": {"anatomy.prior": "atlas", "anatomy.classes": 3},  # nobody's labels
    "no prior": {"anatomy.prior": "none"},
    "no edges": {"restore.edges": "none"},
    "no corruption": {"restore.paint": 0.0, "restore.erase": 0.0},  # the abstract to the letter
    "no restoration": {"restore.edges": "skip"},
    "table": {"recouple.kind": "table"},
    "theta from seen anatomy": {"recouple.imaging": "seen"},
    "plain difference": {"difference.unit": "intensity"},
}
PRESETS = {
    name: {"system": "dal", "score.headline": "highest", **values} for name, values in ({"dal": {}} | PARTS).items()
}
