"""What tests let other processes do, which have other devices: the environment says how many, the arguments what.

python tests/pod_worker.py <task> <output> [settings as JSON]
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from configs.base import base, finish
from symnorm_jax import hosts
from symnorm_jax.masking import draw, patch_grid
from symnorm_jax.scoring.moments import stream
from symnorm_jax.systems import BUILD
from symnorm_jax.training.sharding import created, make_mesh, put_batch, replicated
from symnorm_jax.training.step import compiled, make_optimizer, make_step
from symnorm_jax.training.train import initial_variables, train

STEPS, EXAMPLES = 20, 8
SLICES = {"data.size": (16, 16), "unet.widths": (4, 8), "vae.widths": (4,), "autoencoder.widths": (4,)}
SLICES |= {"padim.features": 6}
VOLUMES = {"data.size": (8, 8, 8), "resnet.widths": (4, 8), "resnet.depths": (1, 1), "resnet.stem_kernel": 3}
VOLUMES |= {"projector.hidden": 8, "projector.out": 4, "mae.patch": 2, "mae.widths": (4,)}
VOLUMES |= {"cnn.widths": (4,), "cnn.features": 4}
VOLUMES |= {"swin.embed": 4, "swin.depths": (2,), "swin.heads": (1,), "swin.window": 2, "swin.cross_heads": 2}


def tiny(system="symnorm", **changes):
    config = base()
    volumes = system in ("simclr", "mae", "supervised", "untrained", "saca", "segmenter")
    config.system = "simclr" if volumes else "symnorm"
    preset = {config.system: "", "saca": ",segment"}.get(system, f",{system}")  # of saca both stages
    common = {"sharding.smallest": 1, "train.checkpoint_every": 5}
    small = {"full": {}, "tiny": (VOLUMES if volumes else SLICES) | common}
    config = finish(config, f"tiny{preset}", sizes=small)
    if volumes and system != "segmenter":
        config.target.column = "age"
    config.update_from_flattened_dict(changes)
    for stage in BUILD[system](config).stages:
        config.train[stage].batch_size = EXAMPLES
    return config


def batch_of(step: int, config) -> dict[str, np.ndarray]:
    """Batch number `step`, whole: brains that are bright discs or balls with noise."""
    rng, size = np.random.default_rng(step), config.data.size
    grid = np.moveaxis(np.indices(size), 0, -1) - np.array(size) / 2
    inside = ((grid**2).sum(-1) < 0.16 * size[0] ** 2)[..., None].astype(np.float32)
    brain = np.broadcast_to(inside, (EXAMPLES, *size, 1))
    image = brain * rng.normal(0.5, 0.2, brain.shape).astype(np.float32)
    index = (EXAMPLES * step + np.arange(EXAMPLES)).astype(np.int32)
    target = rng.normal(0, 1, EXAMPLES).astype(np.float32)
    hidden = [draw("exclusive", patch_grid(size, 4), 0.5, rng) for _ in range(EXAMPLES)]  # for symnorm
    prior = brain * rng.dirichlet(np.ones(4), brain.shape[:-1]).astype(np.float32)  # for dal
    known = {"index": index, "patient": index, "target": target, "prior": prior}
    known |= {"healthy": (target > 0).astype(np.float32), "lesion": image[..., 0] > 0.6}
    return {"image": image, "brain": brain, "hidden": np.stack(hidden), "difference": 2 * image, **known}


def batches(config, stop: int | None = None):
    """This host's part of the batches; asked for number `stop`, an end as sudden as a failing disk."""

    def endless(size: int, start: int):
        mine = slice(jax.process_index() * EXAMPLES // jax.process_count(), None)
        part = slice(0, size // jax.process_count() if size < EXAMPLES else EXAMPLES // jax.process_count())
        step = start
        while step != stop:
            yield {name: x[mine][part] for name, x in batch_of(step, config).items()}
            step += 1
        raise KeyboardInterrupt

    return endless


def losses(settings: dict) -> dict:
    """`{mesh: {system/stage: losses}}` of the first steps: on one device, eight, and eight that share the model."""
    meshes = {"1": make_mesh(1, jax.devices()[:1]), "8": make_mesh(1), "4x2": make_mesh(2)}
    found = {}
    for mesh, systems in settings["meshes"].items():
        configs = [tiny(system=name, **settings["config"]) for name in systems]
        found[mesh] = {name: values for config in configs for name, values in _losses(config, meshes[mesh]).items()}
    return found


def _losses(config, mesh) -> dict[str, list[float]]:
    system, found = BUILD[config.system](config), {}
    variables = initial_variables(system, config, batch_of(0, config), mesh)
    for name, stage in system.stages.items():
        optimizer = make_optimizer(steps=STEPS, **config.train[name].optimizer)
        trained = {net: variables["params"].pop(net) for net in stage.trains}
        opt = created(optimizer.init, (trained,), mesh, config.sharding.smallest)
        count = jax.device_put(np.int32(0), replicated(mesh))
        state = {"params": trained, "stats": variables["stats"], "opt": opt, "step": count}
        step = make_step(name, stage, optimizer, 0, STEPS, mesh, config.train.accumulate)
        run, key = compiled(step, state, variables["params"], batch_of(0, config), mesh).run, f"{config.system}/{name}"
        found[key] = []
        for t in range(STEPS):
            state, metrics = run(state, variables["params"], put_batch(batch_of(t, config), mesh))
            found[key].append(float(metrics["loss"]))
        variables = {"params": variables["params"] | state["params"], "stats": state["stats"]}
    return found


def trained(settings: dict) -> dict:
    """The sum of absolute weights after training in `folder`, until batch `stop`; with the moments of some vectors."""
    config = tiny(**settings["config"])
    weights, drawn = None, batches(config, settings["stop"])
    try:
        variables = train(BUILD["symnorm"](config), config, drawn, Path(settings["folder"]), lambda variables: drawn)
        total = jax.jit(lambda tree: [abs(x).sum() for x in jax.tree.leaves(tree)])(variables["params"])
        weights = [float(x) for x in total]
    except KeyboardInterrupt:
        pass
    moments = stream(np.random.default_rng(0).normal(3, 1, (700, 24)), batch=64)
    return {
        "weights": weights,
        "moments": [np.asarray(x, float).tolist() for x in moments],
        "devices": jax.device_count(),
    }


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)  # they take longer than what they would speed up here
    task, output, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    if pod := settings.pop("pod", None):
        hosts.join(*pod)
    found = {"losses": losses, "trained": trained}[task](settings)
    if hosts.lead():
        output.write_text(json.dumps(found))
