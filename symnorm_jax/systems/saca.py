"""saca: symmetry-aware cross-attention (Ma et al., MICCAI 2024, arXiv 2407.08948), a Swin of a head and its mirror.

Four tasks pre-train it: healthy people are to be like their mirror images and patients not, which needs to be told who
is which; and by what cross-attention makes of both sides, it must tell how a view is turned, which is the other view of
the same volume, and what was cut out. The score is how unlike its mirror image a volume is: without a fit, but not
without labels. What the release does otherwise, and why, stands in docs/saca.md.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.models.saca import Heads, Reconstruction
from symnorm_jax.settings import check_choices
from symnorm_jax.systems import pairs, views
from symnorm_jax.systems.contract import Aux, Batch, Embedding, Stage, System, Variables, example_keys
from symnorm_jax.systems.encoder import VolumeEncoder, stride_of, whole
from symnorm_jax.systems.segmentation import MEANING, SEGMENT, Segmenter, highest
from symnorm_jax.systems.windows import count_of

VIEWS = 2
TASKS = ("symmetry", "rotation", "contrast", "inpaint")  # whose weights the section `saca` has
SYMMETRY_ON = ("clean", "corrupted")


def saca(config: ConfigDict) -> System:
    """Make saca of a config. Raises ConfigError for tasks that the volumes, or the people trained on, do not allow."""
    _check(config)
    model = SACA(config)
    trains = ("encoder", "heads", *(["decoder"] if config.saca.inpaint else []))
    stages, scores, asks, passes = {"pretrain": Stage(trains, model.loss)}, ("asymmetry",), (), 2
    if model.segmenter:
        passes += 2 * count_of(model.encoder.size, config.segment.crop) if config.segment.crop else 0
        stages[SEGMENT] = Stage(model.segmenter.nets, model.segmenter.loss)
        scores, asks = (*scores, "highest"), ("lesion",)
    system = model.encoder.system(stages, model.init, ("saca.features",))
    asks = (*system.asks, *(["healthy"] if config.saca.symmetry else []), *asks)
    marks = {}
    if model.segmenter:
        marks = {"of_network": {"segmenter": MEANING}, "fitted": (*system.fitted, "segment.crop")}
    return system._replace(embed=model.embed, scores=scores, passes=passes, asks=asks, **marks)


def _check(config: ConfigDict) -> None:
    check_choices(config, {"saca.loss": losses.SYMMETRY, "saca.symmetry_on": SYMMETRY_ON, "encoder": ("swin",)})
    size, weights = tuple(config.data.size), [config.saca[task] for task in TASKS]
    seen = (config.saca.crop,) * 3 if config.saca.crop else size
    if not any(weights):
        raise ConfigError(f"saca.{', saca.'.join(TASKS)}: all are 0; a weight above 0 is needed.")
    if config.saca.symmetry and config.data.train_on != "everyone":
        found = f"data.train_on={config.data.train_on!r} with saca.symmetry={config.saca.symmetry}"
        raise ConfigError(f"{found}, which learns what healthy people and patients differ in; 'everyone' is allowed.")
    if config.saca.rotation and len(size) == 3 and seen[1] != seen[2]:
        found = f"data.size={size} with saca.crop={config.saca.crop} and saca.rotation={config.saca.rotation}"
        raise ConfigError(f"{found}; a second and a third side that are equal are allowed.")
    stride = stride_of(config)
    if config.saca.crop and not stride < config.saca.crop <= min(size):
        raise ConfigError(f"saca.crop={config.saca.crop}; 0, or sides above {stride} up to {min(size)}, are allowed.")
    if config.saca.inpaint and stride & (stride - 1):
        raise ConfigError(f"swin.patch={config.swin.patch} with saca.inpaint; a power of 2 is allowed.")


class SACA:
    def __init__(self, config: ConfigDict):
        self.encoder, self.settings = VolumeEncoder(config), config.saca
        self.stride, self.heads = stride_of(config), Heads(config.saca.features)
        size = (config.saca.crop,) * 3 if config.saca.crop else tuple(config.data.size)
        self.decoder = Reconstruction(size, self.stride.bit_length() - 1, **config.network)
        self.places = tuple(-(-side // self.stride) for side in size)
        self.segmenter = Segmenter(config) if config.segment.network else None

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        keys, width = jax.random.split(key, 4), self.encoder.width
        variables = self.encoder.init(keys[0], batch)
        heads = self.heads.init(keys[1], jnp.zeros((1, width)))["params"]
        decoder = {}
        if self.settings.inpaint:
            decoder = {"decoder": self.decoder.init(keys[2], jnp.zeros((1, *self.places, width)))["params"]}
        variables = variables | {"params": variables["params"] | {"heads": heads} | decoder}
        return self.segmenter.added(keys[3], batch, variables) if self.segmenter else variables

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Sum the tasks by their weights, each a mean over examples and of rotation and painting over views."""
        drawn = self.views(batch, key)
        terms = self.terms(variables, batch, drawn)
        total = sum(self.settings[task] * value for task, value in terms.items())
        return total, Aux(terms, variables["stats"])

    def views(self, batch: Batch, key: jax.Array) -> pairs.View:
        """Draw the views of each pair, `[B, VIEWS, ...]`; a step has one crop of a volume, which both are of."""

        def of_one(key: jax.Array, each: jax.Array, volume: jax.Array) -> pairs.View:
            pair, asked = pairs.cropped(key, volume, self.settings.crop), self.settings
            how = bool(asked.rotation), asked.cut, tuple(asked.blocks)
            return jax.vmap(lambda key: pairs.draw(key, *pair, *how))(each)

        keys = [views.view_keys(key, batch["index"], view) for view in range(VIEWS)]
        crops = example_keys(jax.random.fold_in(key, VIEWS), batch["index"])
        return jax.vmap(of_one)(crops, jnp.stack(keys, 1), whole(batch))

    def terms(self, variables: Variables, batch: Batch, drawn: pairs.View) -> dict[str, jax.Array]:
        """Compute the loss of each task whose weight is not 0, `{task: []}`."""
        asked, flat = self.settings, lambda x: x.reshape(-1, *x.shape[2:])
        apart = asked.symmetry and asked.symmetry_on == "clean"
        attending = asked.rotation or asked.contrast or asked.inpaint
        kinds = [*(["seen"] if attending or not apart else []), "mirrored", *(["clean"] if apart else [])]
        made = self._tokens(variables, jnp.stack([getattr(drawn, kind) for kind in kinds], 2))
        tokens = {kind: made[:, :, i] for i, kind in enumerate(kinds)}
        if attending:
            attended = self._ask(variables, "attend", flat(tokens["seen"]), flat(tokens["mirrored"]))
        own = tokens["clean" if apart else kinds[0]]
        found = {
            "symmetry": lambda: self._symmetry(variables, own, tokens["mirrored"], batch),
            "rotation": lambda: self._rotation(variables, attended, flat(drawn.turn)),
            "contrast": lambda: self._contrast(variables, attended, batch["patient"]),
            "inpaint": lambda: self._inpaint(variables, attended, flat(drawn.clean)),
        }
        return {task: of() for task, of in found.items() if asked[task]}

    def _tokens(self, variables: Variables, volumes: jax.Array) -> jax.Array:
        """Give the tokens of views `[B, VIEWS, N, *S, C]`, `[B, VIEWS, N, *n, D]`; those of one stay on one device."""
        tokens = self._ask(variables, "tokens", volumes.reshape(-1, *volumes.shape[3:]))
        return tokens.reshape(*volumes.shape[:3], *tokens.shape[1:])

    def _symmetry(self, variables: Variables, own: jax.Array, mirrored: jax.Array, batch: Batch) -> jax.Array:
        scale, found = variables["params"]["heads"]["scale"], 0.0
        for view in range(VIEWS):
            cosine = 1 - 2 * self._asymmetry(variables, own[:, view], mirrored[:, view])
            found += losses.SYMMETRY[self.settings.loss](cosine, batch["healthy"], scale).mean()
        return found

    def _rotation(self, variables: Variables, attended: jax.Array, turn: jax.Array) -> jax.Array:
        logits = self._head(variables, "rotation", self._pooled(variables, attended, 0))
        return optax.softmax_cross_entropy_with_integer_labels(logits, turn).mean()

    def _contrast(self, variables: Variables, attended: jax.Array, patients: jax.Array) -> jax.Array:
        projected = self._head(variables, "contrast", self._pooled(variables, attended, 1))
        one, other = jnp.moveaxis(projected.reshape(-1, VIEWS, projected.shape[-1]), 1, 0)
        return losses.nt_xent(one, other, self.settings.temperature, patients).mean()

    def _inpaint(self, variables: Variables, attended: jax.Array, clean: jax.Array) -> jax.Array:
        painted = self.decoder.apply({"params": variables["params"]["decoder"]}, attended)
        return jnp.abs(painted - clean).mean()  # air included

    def _asymmetry(self, variables: Variables, own: jax.Array, mirrored: jax.Array) -> jax.Array:
        """Compute how unlike the tokens `[B, *n, D]` of two volumes are, `[B]`, place by place or in one place.

        Their means would not tell: what lies on the left of a volume lies on the right of its mirror image.
        """
        if self.encoder.net.pool == "token":
            own, mirrored = (self._pooled(variables, x, 1) for x in (own, mirrored))
        pair = (self._head(variables, "symmetry", x).reshape(x.shape[0], -1) for x in (own, mirrored))
        return losses.asymmetry(*pair)

    def embed(self, variables: Variables, batch: Batch) -> Embedding:
        """Embed volumes as the features of the encoder, score how unlike its mirror image each is, and where.

        With a stage that marks lesions, the map is what that marks.
        """
        volume = whole(batch)
        both = jnp.stack([volume, mirror_batch(volume)], 1)
        tokens = self._ask(variables, "tokens", both.reshape(-1, *volume.shape[1:]))
        own, mirrored = jnp.moveaxis(tokens.reshape(*both.shape[:2], *tokens.shape[1:]), 1, 0)
        z = self._pooled(variables, self._ask(variables, "attend", own, mirrored), 0)
        score = self._asymmetry(variables, own, mirrored)
        each = losses.asymmetry(*(self._head(variables, "symmetry", x) for x in (own, mirrored)))
        predicted = self.encoder.predict(variables, z) if self.encoder.target else None
        scores, shown = {"asymmetry": score}, self._enlarged(each) * batch["brain"][..., 0]
        if self.segmenter:
            shown, _ = self.segmenter.marks(variables, batch)
            scores["highest"] = highest(shown)
        return Embedding(z, scores, predicted, shown)

    def _enlarged(self, places: jax.Array) -> jax.Array:
        """Enlarge a map of the places of the last map `[B, *n]` to that of all voxels, `[B, *S]`."""
        sides = [side * self.stride for side in places.shape[1:]]
        whole = jax.image.resize(places, (places.shape[0], *sides), "trilinear")
        return whole[:, *map(slice, self.encoder.size)]

    def _ask(self, variables: Variables, method: str, *given) -> jax.Array:
        return self.encoder.net.apply({"params": variables["params"]["encoder"]}, *given, method=method)

    def _pooled(self, variables: Variables, tokens: jax.Array, place: int) -> jax.Array:
        return self._ask(variables, "pooled", tokens, place)

    def _head(self, variables: Variables, name: str, x: jax.Array) -> jax.Array:
        return self.heads.apply({"params": variables["params"]["heads"]}, x, name, method="answer")
