"""dal: a re-derivation, from its abstract, of disentangled anatomy learning (Yang et al., arXiv 2512.21924).

The abstract fixes: anatomy and imaging information are separated, with anatomical priors and a differentiable one-hot;
the healthy anatomy is restored from the edges of the anatomy alone; imaging information is put back at the end; the
difference is the anomaly. All else is decided here and in `configs/systems/dal.py`. Nothing is ported. docs/dal.md says
what is whose.

The anatomy is found by alternation, as in EM with a learned spatial prior: `where` says from the outline of a brain
where classes lie, and `anatomy` says so from the image, the evidence of its intensities and what was said before.
Priors, shares of tissue from label maps, are seen by the loss of stage `anatomy` and by nothing else.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.losses import TINY, weighted_mean
from symnorm_jax.models.unet import UNet
from symnorm_jax.settings import ATLAS, LABELS, PRIORS, check_choices, check_one_contrast, check_rules, check_sides
from symnorm_jax.systems import anatomy
from symnorm_jax.systems.contract import DATA, Aux, Batch, Residual, Stage, System, Variables, example_keys, folded
from symnorm_jax.systems.contrast import changed
from symnorm_jax.systems.rivals.reconstruction import FITTED, by_patch_of

TISSUES = 3  # of the atlas
SKIPPED = "skip"  # of restore.edges: the anatomy as it was seen stands in for the restored one
CHOICES = {
    "anatomy.onehot": anatomy.ONEHOT,
    "anatomy.prior": (*PRIORS, "none"),
    "restore.edges": (*anatomy.EDGES, SKIPPED),
    "recouple.kind": ("network", "table"),
    "recouple.imaging": ("restored", "seen"),
    "difference.unit": ("imaging", "intensity"),
}


class Found(NamedTuple):
    """What the networks make of slices; images in units of each slice's own brain."""

    seen: jax.Array  # [B, *S, K] anatomy of the image, one-hot
    edges: jax.Array | None  # [B, *S, E] from which it is restored
    restored: jax.Array  # [B, *S, K] shares
    theta: jax.Array  # [B, K, 3] imaging information
    healthy: jax.Array  # [B, *S, 1] the pseudo-healthy image


def build(config: ConfigDict) -> System:
    """Make dal of a config. Raises ConfigError where a choice is unknown, or slices do not divide into networks."""
    check_one_contrast(config)
    check_choices(config, CHOICES)
    if config.anatomy.prior == ATLAS and config.anatomy.classes != TISSUES:
        found = f"anatomy.classes={config.anatomy.classes} with anatomy.prior='atlas'"
        raise ConfigError(f"{found}; {TISSUES}, fluid, grey and white matter, are allowed.")
    most = min(config.data.size) * config.data.spacing
    text = f"two ascending radii above 0, up to the {most:g} mm of a slice, are"
    check_rules(config, {"restore.radii": (lambda radii: 0 < radii[0] <= radii[1] <= most, text)})
    nets = {"where": (4, config.anatomy.where)}
    nets |= {name: (config[name].stem, config[name].widths) for name in ("anatomy", "restore", "recouple")}
    check_sides(config, math.lcm(*(stem * 2 ** (len(widths) - 1) for stem, widths in nets.values())))
    model, meaning = Dal(config), (*DATA, "anatomy", "contrast", "restore", "recouple")
    scores = "mae", "disagreement"
    return System(model.init, model.stages, by_patch_of(config), model.residual, scores, model.passes, meaning, FITTED)


class Dal:
    def __init__(self, config: ConfigDict):
        self.config, self.classes, self.spacing = config, config.anatomy.classes, config.data.spacing
        self.rounds, kind = config.anatomy.passes, config.anatomy.prior
        self.prior = (kind, self.classes) if kind in PRIORS else None
        net = partial(UNet, **config.network)
        how = lambda section: {name: config[section][name] for name in ("widths", "depth", "stem")}  # noqa: E731
        self.nets = {"anatomy": net(**how("anatomy"), channels=self.classes)}
        if self.rounds:
            self.nets["where"] = net(config.anatomy.where, depth=1, stem=4, channels=self.classes)
        if config.restore.edges != SKIPPED:
            self.nets["restore"] = net(**how("restore"), channels=self.classes)
        if config.recouple.kind == "network":
            self.nets["recouple"] = net(**how("recouple"))

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages, but for those of parts that are left out."""
        first = tuple(name for name in ("where", "anatomy") if name in self.nets)
        made = {"anatomy": Stage(first, self.anatomy_loss, prior=self.prior)}
        rest = {"restore": self.restore_loss, "recouple": self.recouple_loss}
        return made | {name: Stage((name,), loss) for name, loss in rest.items() if name in self.nets}

    @property
    def passes(self) -> int:
        return 1 + self.rounds + ("restore" in self.nets) + ("recouple" in self.nets)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        one, k = jnp.ones_like(batch["image"]), self.classes
        channels = {"where": 1, "anatomy": 2 + 2 * k if self.rounds else 2, "recouple": k + 2 + 3 * k}
        channels["restore"] = 2 if self.config.restore.edges == "boundary" else k
        keys = jax.random.split(key, len(self.nets))
        seen = {name: jnp.repeat(one, channels[name], -1) for name in self.nets}
        params = {
            name: net.init(own, seen[name])["params"] for own, (name, net) in zip(keys, self.nets.items(), strict=True)
        }
        return {"params": params, "stats": {}}

    def _net(self, variables: Variables, name: str, *seen: jax.Array) -> jax.Array:
        return self.nets[name].apply({"params": variables["params"][name]}, jnp.concatenate(seen, -1))

    def logits(self, variables: Variables, image: jax.Array, brain: jax.Array) -> list[jax.Array]:
        """Give the logits of classes of each round, the first from the outline alone, the last the answer."""
        if not self.rounds:
            return [self._net(variables, "anatomy", brain, image)]
        found = [self._net(variables, "where", brain)]
        for _ in range(self.rounds):
            p = jax.nn.softmax(found[-1]) * brain
            theta = jax.lax.stop_gradient(anatomy.imaging(image, p))
            said = anatomy.evidence(image, theta) * brain
            found.append(self._net(variables, "anatomy", brain, image, said, p))
        return found

    def _classes(self, logits: jax.Array, brain: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        return anatomy.onehot(logits, self.config.anatomy.onehot, keys) * brain

    def _seen(self, variables: Variables, image: jax.Array, brain: jax.Array) -> jax.Array:
        """Give the anatomy `[B, *S, K]` of an image, 0 outside the brain."""
        return self._classes(self.logits(variables, image, brain)[-1], brain)

    def _restored(self, variables: Variables, seen: jax.Array, brain: jax.Array, keep=1.0) -> tuple:
        """Restore the healthy anatomy: the edges it is made from, the logits, and the shares, 0 outside the brain."""
        if "restore" not in self.nets:
            return None, None, seen
        edges = anatomy.edges(seen, brain, self.config.restore.edges) * keep
        logits = self._net(variables, "restore", edges)
        return edges, logits, jax.nn.softmax(logits) * brain

    def find(self, variables: Variables, image: jax.Array, brain: jax.Array) -> Found:
        """Make the pseudo-healthy image of slices: their classes, restored, painted as imaging information says."""
        seen = self._seen(variables, image, brain)
        edges, _, restored = self._restored(variables, seen, brain)
        # Under the restored anatomy a lesion is an outlier of the tissue that should be there, and no class of its own.
        theta = anatomy.imaging(image, restored if self.config.recouple.imaging == "restored" else seen)
        painted = anatomy.table(restored, theta)
        if "recouple" in self.nets:
            known = jnp.broadcast_to(theta.reshape(len(theta), 1, 1, -1), (*brain.shape[:-1], 3 * self.classes))
            painted += self._net(variables, "recouple", restored, painted, brain, known * brain)
        return Found(seen, edges, restored, theta, painted)

    def residual(self, variables: Variables, batch: Batch) -> Residual:
        """Compare slices with their pseudo-healthy image, in deviations that their own imaging information expects.

        `mae` is in the unit of the data; `disagreement` the mean of -log sum_k q_k y_k, of restored and seen classes.
        """
        brain = batch["brain"]
        image, unit = anatomy.in_own_unit(batch["image"], brain)
        found = self.find(variables, image, brain)
        healthy = unit.undo(found.healthy)
        raw = (batch["image"] - healthy) * brain
        if self.config.difference.unit == "imaging":
            raw = (image - found.healthy) / anatomy.expected_spread(found.restored, found.theta) * brain
        agreed = (found.restored * found.seen).sum(-1, keepdims=True)
        scores = {"mae": losses.l1(healthy, batch["image"], brain)}
        scores["disagreement"] = weighted_mean(-jnp.log(jnp.maximum(agreed, TINY)), brain)
        label = lambda y: (y.argmax(-1, keepdims=True) + 1) / self.classes * brain  # noqa: E731
        panels = {"anatomy": label(found.seen), "healthy anatomy": label(found.restored)}
        if found.edges is not None:
            panels["edges"] = found.edges.max(-1, keepdims=True)
        return Residual(raw, scores, panels | {"pseudo-healthy": healthy * brain})

    def anatomy_loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Compare the anatomy of two contrasts of each slice with its prior, with each other, and by what they paint.

        L = sum_t a_t D(round t, prior) + invariance |p1 - p2|^2 + cross (L1 of what classes of one contrast paint with
        the imaging information of the other), both means over the brain. D is CE + soft Dice for labels, and for an
        atlas the free energy, since it says where a tissue is likely and not where it is.
        """
        settings, brain = self.config.anatomy, batch["brain"]
        image = anatomy.in_own_unit(batch["image"], brain)[0]
        labels = self.prior and self.prior[0] == LABELS
        painted = batch["prior"] if labels else self._believed(variables, image, brain)
        keys = example_keys(key, batch["index"])
        both = [self._changed(keys, number, image, brain, painted) for number in range(2)]
        images, brains = jnp.concatenate(both), jnp.concatenate([brain, brain])
        rounds = self.logits(variables, images, brains)
        p1, p2 = jnp.split(jax.nn.softmax(rounds[-1]), 2)
        metrics = {"invariance": weighted_mean(jnp.square(p1 - p2).sum(-1, keepdims=True), brain).mean()}
        doubled = jnp.concatenate([folded(keys, 2), folded(keys, 3)])
        y1, y2 = jnp.split(self._classes(rounds[-1], brains, doubled), 2)
        crossed = [
            losses.l1(anatomy.table(one, anatomy.imaging(x, other)), x, brain)
            for one, other, x in ((y1, y2, both[1]), (y2, y1, both[0]))
        ]
        metrics["cross"] = (crossed[0] + crossed[1]).mean()
        loss = settings.invariance * metrics["invariance"] + settings.cross * metrics["cross"]
        if self.prior:
            truth = jnp.concatenate([batch["prior"], batch["prior"]])
            apart = _apart if labels else partial(anatomy.free_energy, images)
            weights = jnp.linspace(0.3, 1.0, len(rounds)) if self.rounds else (1.0,)
            each = [apart(logits, truth, brains).mean() for logits in rounds]
            metrics["prior"] = each[-1]
            loss += sum(weight * one for weight, one in zip(weights, each, strict=True))
        return loss, Aux(metrics, variables["stats"])

    def restore_loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Compare the anatomy restored from edges of a changed and corrupted one with that of the slice as it is."""
        image, brain, keys, target = self._given(variables, batch, key)
        seen = self._seen(variables, self._changed(keys, 0, image, brain, target), brain)
        seen, keep = anatomy.corrupt(seen, brain, folded(keys, 1), self.config.restore, self.spacing)
        _, logits, _ = self._restored(variables, seen, brain, keep)
        clean = jax.nn.one_hot(target.argmax(-1), self.classes)
        loss = weighted_mean(_cross_entropy(logits, clean), brain).mean()
        return loss, Aux({"cross_entropy": loss}, variables["stats"])

    def recouple_loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Compare the pseudo-healthy image of a changed slice with the changed slice."""
        image, brain, keys, prior = self._given(variables, batch, key)
        image = self._changed(keys, 0, image, brain, prior)
        loss = losses.l1(self.find(variables, image, brain).healthy, image, brain).mean()
        return loss, Aux({"l1": loss}, variables["stats"])

    def _given(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple:
        """Give slices in their own unit, brains, a key for each, and what the networks believe of their classes."""
        image, brain = anatomy.in_own_unit(batch["image"], batch["brain"])[0], batch["brain"]
        return image, brain, example_keys(key, batch["index"]), self._believed(variables, image, brain)

    def _believed(self, variables: Variables, image: jax.Array, brain: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(jax.nn.softmax(self.logits(variables, image, brain)[-1])) * brain

    def _changed(self, keys: jax.Array, number: int, image: jax.Array, brain: jax.Array, prior: jax.Array) -> jax.Array:
        return changed(image, brain, prior, folded(keys, number), self.config.contrast)


def _cross_entropy(logits: jax.Array, truth: jax.Array) -> jax.Array:
    return -(truth * jax.nn.log_softmax(logits)).sum(-1, keepdims=True)


def _apart(logits: jax.Array, prior: jax.Array, brain: jax.Array) -> jax.Array:
    """Compute cross-entropy plus 1 - soft Dice, the mean over classes, of shares `[B, *S, K]`, by example, `[B]`."""
    axes, p = tuple(range(1, logits.ndim - 1)), jax.nn.softmax(logits) * brain
    both, each = (p * prior).sum(axes), p.sum(axes) + prior.sum(axes)
    dice = (2 * both + 1) / (each + 1)  # a class that is not there and not seen has a Dice of 1
    return weighted_mean(_cross_entropy(logits, prior), brain) + 1 - dice.mean(-1)
