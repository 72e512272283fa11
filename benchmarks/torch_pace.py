"""How quick the default U-Net trains and infers beside the same network in torch, on one CPU.

python benchmarks/torch_pace.py --config=demo --rounds=7
    (needs torch, which nothing else here does: pip install torch)

The network in torch has the same weights and is checked to give the same output. Both do the same work: a step is a
forward pass over hidden patches, an L1 loss, a backward pass, clipping and AdamW. Frameworks take turns; a ratio is
torch's seconds over JAX's of the same round, above 1 where JAX is quicker, with its median, least and most over rounds.
"""

import copy
import math
import sys
import time
from collections.abc import Callable

import jax
import joblib
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from training import ready

from symnorm_jax import notebooks
from symnorm_jax.cli import at_least_one, parsed
from symnorm_jax.errors import reported
from symnorm_jax.models.unet import UNet
from symnorm_jax.report.table import Table
from symnorm_jax.training.sharding import answering, make_mesh, share_cores

OPTIONS = {
    "--config": {"default": "demo", "help": "a notebook of symnorm"},
    "--rounds": {"type": at_least_one, "default": 7, "help": "turns of each framework"},
    "--steps": {"type": at_least_one, "default": 10, "help": "steps, or passes over a batch, of a turn"},
}


class Block(nn.Module):
    """Convolution, GroupNorm and SiLU, `depth` times."""

    def __init__(self, channels: int, width: int, depth: int):
        super().__init__()
        sides = [channels, *[width] * depth]
        self.convs = nn.ModuleList(nn.Conv2d(sides[i], width, 3, padding=1, bias=False) for i in range(depth))
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, width), width, eps=1e-6) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.silu(norm(conv(x)))
        return x


class TorchUNet(nn.Module):
    """The network of `symnorm_jax/models/unet.py`, as torch's users would write it."""

    def __init__(self, channels: int, widths: tuple[int, ...], depth: int, stem: int):
        super().__init__()
        self.stem, inputs = stem, channels * stem**2
        self.down = nn.ModuleList(Block(a, b, depth) for a, b in zip((inputs, *widths), widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.join = nn.ModuleList(Block(2 * b, b, depth) for _, b in pairs)
        self.last = nn.Conv2d(widths[0], stem**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = functional.pixel_unshuffle(x, self.stem), []
        for i, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if i else x)
            skips.append(x)
        for up, block, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = block(torch.cat([up(x), skip], 1))
        return functional.pixel_shuffle(self.last(x), self.stem)


def given_weights(net: TorchUNet, params: dict, stem: int, channels: int) -> None:
    """Copy the weights of the flax network; pixel shuffles order their channels otherwise in torch."""
    weights = lambda x: torch.tensor(np.array(x).transpose(3, 2, 0, 1))  # noqa: E731
    with torch.no_grad():
        for number, block in enumerate([*net.down, *net.join]):
            one = params[f"ConvBlock_{number}"]
            for i, (conv, norm) in enumerate(zip(block.convs, block.norms, strict=True)):
                kernel = np.array(one[f"Conv_{i}"]["kernel"])
                if number == i == 0:  # folded by torch with the colour first
                    kernel = (
                        kernel.reshape(*kernel.shape[:2], stem**2, channels, -1).swapaxes(2, 3).reshape(kernel.shape)
                    )
                conv.weight.copy_(weights(kernel))
                norm.weight.copy_(torch.tensor(np.array(one[f"GroupNorm_{i}"]["scale"])))
                norm.bias.copy_(torch.tensor(np.array(one[f"GroupNorm_{i}"]["bias"])))
        for number, up in enumerate(net.up):
            one = params[f"Upsample_{number}"]["Conv_0"]
            kernel = np.array(one["kernel"])[0, 0].reshape(-1, 2, 2, up.out_channels).transpose(0, 3, 1, 2)
            up.weight.copy_(torch.tensor(kernel))
            up.bias.copy_(torch.tensor(np.array(one["bias"]).reshape(4, -1)[0]))
        net.last.weight.copy_(weights(params["Conv_0"]["kernel"]))
        net.last.bias.copy_(torch.tensor(np.array(params["Conv_0"]["bias"])))


def torch_work(net: nn.Module, steps: int, x: np.ndarray, many: np.ndarray, target: np.ndarray, weight: np.ndarray):
    """Make what trains for `steps` on `x`, and what infers `many` as often, `(train, infer)`."""
    near = [
        torch.tensor(one.transpose(0, 3, 1, 2)).to(memory_format=torch.channels_last) for one in (x, target, weight)
    ]
    seen = torch.tensor(many.transpose(0, 3, 1, 2)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, weight_decay=0.01)

    def train() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            error = ((net(near[0]) - near[1]).abs() * near[2]).sum((1, 2, 3)) / near[2].sum((1, 2, 3))
            error.mean().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

    def infer() -> None:
        with torch.inference_mode():
            for _ in range(steps):
                net(seen)

    return train, infer


def jax_work(config, steps: int, many: np.ndarray):
    """Make the same of the trainer's own compiled step and of the network over all devices; and the first batch."""
    one, mesh = ready(config, "unet"), make_mesh()
    net, state = UNet(**config.unet, **config.network), [one.state]
    params = jax.device_get(one.state["params"]["unet"])
    apply = answering(lambda params, batch: net.apply({"params": params}, batch["x"]), mesh)

    def train() -> None:
        for _ in range(steps):
            state[0], _ = one.step.run(state[0], one.frozen, one.batch)
        jax.block_until_ready(state[0])

    def infer() -> None:
        for _ in range(steps):
            jax.block_until_ready(apply(params, {"x": many}))

    return (train, infer), params, apply


def main(arguments: list[str]) -> int:
    args = parsed("benchmarks/torch_pace.py", __doc__, OPTIONS, arguments)
    config = notebooks.read(args.config, []).config
    share_cores(config, None)
    torch.set_num_threads(joblib.cpu_count())
    rng, settings = np.random.default_rng(0), config.unet
    channels = 4 if config.mask.mirror_context else 2  # image and mask, and their mirror images
    sides = (*config.data.size, channels)
    x, many = (
        rng.random((size, *sides), np.float32) for size in (config.train.unet.batch_size, config.score.batch_size)
    )
    ours, params, apply = jax_work(config, args.steps, many)
    made = TorchUNet(channels, tuple(settings.widths), settings.depth, settings.stem)
    given_weights(made, params, settings.stem, channels)
    made = made.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        theirs = made(torch.tensor(many.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    apart = np.abs(theirs - np.asarray(apply(params, {"x": many}))).max()
    assert apart < 1e-4, f"the two networks differ by {apart}"
    weight = np.ones((*x.shape[:3], 1), np.float32)
    rivals = {"eager": made, "compiled": torch.compile(copy.deepcopy(made))}
    work = {"jax": ours} | {
        name: torch_work(net, args.steps, x, many, x[..., :1], weight) for name, net in rivals.items()
    }
    for both in work.values():  # compiles
        [of() for of in both]
    found = (
        np.array([[[seconds(of) for of in both] for both in work.values()] for _ in range(args.rounds)]) / args.steps
    )
    rows = []
    for place, what in enumerate(("training step", "inference")):
        size = (x, many)[place].shape[0]
        for number, name in enumerate(rivals, start=1):
            ratio = found[:, number, place] / found[:, 0, place]
            each = [f"{1000 * np.median(found[:, one, place]):.1f}" for one in (0, number)]
            rows.append([what, str(size), *each, name, f"{np.median(ratio):.2f} ({ratio.min():.2f}–{ratio.max():.2f})"])
    header = ["", "slices", "JAX, ms", "torch, ms", "torch", "torch / JAX"]
    Table(f"{jax.device_count()} devices, torch {torch.__version__}, jax {jax.__version__}", header, rows).print()
    return 0


def seconds(of: Callable[[], None]) -> float:
    start = time.perf_counter()
    of()
    return time.perf_counter() - start


if __name__ == "__main__":
    with reported():
        sys.exit(main(sys.argv[1:]))
