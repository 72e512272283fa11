"""symnorm on 64 x 64 slices."""

from configs.systems.parts import DIFFERENCE, PATCH, UNET, stage

SETTINGS = {
    "symnorm": {
        "task": "masking",  # or corruption: what the U-Net learns to undo
        "mask": {
            "kind": "random",  # exclusive, paired, hemisphere, checkerboard, random, none
            "patch": PATCH,
            "ratio": 0.5,  # of the patches, hidden at a time
            "covers": 4,  # averaged at inference; each takes 1 / ratio network passes, rounded up
            "mirror_context": True,  # the U-Net also sees the mirror image of what is visible
        },
        "corruption": {  # of the task of this name, which hides nothing
            "grid": 8,  # cells a side of the fields that blobs are cut out of, and of the noise in them
            "share": 0.2,  # most of a slice that blobs cover
            "deviation": 1.0,  # of the noise and of foreign tissue, in standard deviations of the slice's brain
        },
        "unet": UNET,
        "vae": {"widths": (16, 32, 64, 64), "latent": 1024},
        "loss": {
            "reconstruction": "l1",  # or l2, on hidden brain pixels
            "ssim": 0.0,  # weight of 1 - SSIM beside it
            "scale": 0.5,  # deviation of the VAE's likelihood, in units of the difference map
            "beta": 0.1,  # weight of the KL divergence
            "warmup": 0.25,  # share of the steps in which beta grows from 0
        },
        "difference": DIFFERENCE | {"threshold": 3.0},  # the VAE sees by how much maps are beyond it
        "train": {
            "unet": stage(steps=10_000, batch_size=8, learning_rate=2e-3),
            "vae": stage(steps=1000, batch_size=16, learning_rate=1e-3),
        },
        "finetune": {
            "unet": stage(steps=500, batch_size=8, learning_rate=2e-4),
            "vae": stage(steps=300, batch_size=16, learning_rate=2e-4),
        },
    }
}
TINY = {"mask.patch": 4, "mask.covers": 1, "unet.widths": (8, 16), "vae.widths": (8, 16), "vae.latent": 32}
TINY |= {"difference.threshold": 1.0}  # of so few slices none may go beyond 3
PRESETS = {
    "corruption": {"task": "corruption"},  # one pass at inference
    "exclusive": {"mask.kind": "exclusive"},  # the twin of what is hidden is always visible
    "no mirror": {"mask.mirror_context": False},
    # Interpretations: the paper names these two configurations in its abstract and does not define them.
    # "AB1": masks that alternate block by block, A and B, at a scale of one patch; decided by reconstruction error.
    "AB1+MSE": {"mask.kind": "checkerboard", "score.headline": "mse", "score.threshold": "max_accuracy"},
    # Masks that respect the mirror, decided by Mahalanobis distance at the ROC-optimised threshold.
    "Symmetry ROC": {"mask.kind": "exclusive", "score.headline": "mahalanobis", "score.threshold": "roc"},
}
