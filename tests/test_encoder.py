"""What stands beside simclr: the masked autoencoder, training with labels, the small CNN, and no training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import log_loss
from test_simclr import SIZE, batch_of, tiny

from symnorm_jax.checks import checked
from symnorm_jax.errors import ConfigError
from symnorm_jax.models.autoencoder import Decoder3D
from symnorm_jax.models.encoder3d import CNN3D
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.encoder import whole
from symnorm_jax.systems.pretraining import MAE, hide

AGE = {"target.column": "age"}
OWN = {"mae": {"mae.patch": 2}, "supervised": {"cnn.widths": (4,)}, "cnn": {"cnn.widths": (4,)}}  # for boxes of 8


def brain_of(side: int = 9) -> jax.Array:
    grid = np.moveaxis(np.indices((side,) * 3), 0, -1) - (side - 1) / 2
    return jnp.asarray(((grid**2).sum(-1) < 10)[..., None], jnp.float32)


def built(rival, **changes):
    """The system of a preset of simclr with a target; "" is simclr itself."""
    config = tiny(rival, **AGE | OWN.get(rival, {}) | changes)
    return BUILD[config.system](config)


@pytest.fixture(scope="module")
def batch():
    return batch_of(np.random.default_rng(0)) | {"target": jnp.array([-1.0, 1.0, 0.0, 1.0])}


@pytest.fixture(scope="module")
def systems(batch):
    """`{name: (system, fresh variables)}`."""

    def fresh(rival, **changes):
        system = built(rival, **changes)
        return system, jax.jit(system.init)(jax.random.key(0), batch)

    kinds = {name: fresh(name) for name in ("mae", "supervised", "untrained", "cnn")}
    return kinds | {"class": fresh("supervised", **{"target.kind": "class"})}


@pytest.mark.parametrize("patch, ratio", [(2, 0.75), (4, 0.5), (9, 0.75)])
def test_a_share_of_the_patches_that_show_brain_is_hidden(patch, ratio):
    brain = brain_of()
    hidden = np.asarray(hide(jax.random.key(0), brain, patch, ratio))[..., 0]
    shown = hiding = 0
    for corner in np.ndindex(*(-(-side // patch) for side in hidden.shape)):
        cut = tuple(slice(patch * i, patch * (i + 1)) for i in corner)
        part = hidden[cut]
        assert part.min() == part.max()  # whole patches
        if not np.asarray(brain)[cut].any():
            assert part.max() == 0  # never of air
            continue
        shown, hiding = shown + 1, hiding + part.max()
    assert hiding == round(ratio * shown)
    other = np.asarray(hide(jax.random.key(1), brain, patch, ratio))[..., 0]
    assert patch == 9 or (other != hidden).any()


def test_the_masked_autoencoder_is_judged_on_what_it_did_not_see(systems, batch):
    """The loss from its parts; another image behind the mask changes nothing that the network says."""
    (system, variables), model = systems["mae"], MAE(tiny("mae", **AGE | OWN["mae"]))
    key, volume, brain = jax.random.key(4), np.asarray(whole(batch)), np.asarray(batch["brain"])
    value, aux = jax.jit(system.stages["pretrain"].loss)(variables, batch, key)
    keys = [jax.random.fold_in(key, i) for i in range(4)]
    hidden = np.stack([np.asarray(hide(one, b, 2, 0.75)) for one, b in zip(keys, batch["brain"], strict=True)])
    last, stats = model.encoder.trained(variables, jnp.asarray(np.where(hidden > 0, 0, volume)), pooled=False)
    told = np.asarray(model.decoder.apply({"params": variables["params"]["decoder"]}, last))
    judged = (hidden * brain) > 0
    of_each = [((told[i] - volume[i])[judged[i]] ** 2).mean() for i in range(4)]
    np.testing.assert_allclose(value, np.mean(of_each), rtol=1e-4)
    for one, other in zip(jax.tree.leaves(aux.stats), jax.tree.leaves(stats), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size, stride, widths", [((9, 7, 5), 4, (4, 4)), ((8, 8, 8), 8, (4,)), ((6, 5, 7), 2, ())])
def test_the_decoder_gives_back_the_size_of_the_volume(size, stride, widths):
    coarse = jnp.ones((2, *(-(-side // stride) for side in size), 3))
    decoder = Decoder3D(widths, size, stride)
    out = jax.eval_shape(lambda x: decoder.init_with_output(jax.random.key(0), x)[0], coarse)
    assert out.shape == (2, *size, 1)


def test_the_small_cnn_has_the_published_number_of_parameters():
    """27 (32 + 32 64 + 64 128 + 128 256 + 256 256) + 256 64 in convolutions, two a channel in norms: 2.95 million."""
    volume = jnp.zeros((1, 32, 32, 32, 1))
    variables = jax.eval_shape(lambda x: CNN3D().init(jax.random.key(0), x, train=False), volume)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 2_949_536


@pytest.mark.parametrize("name", ["supervised", "cnn", "class"])
def test_fine_tuning_is_told_by_the_target_alone(systems, batch, name):
    """With a head of zeros every answer is 0; squared error of a number, cross-entropy of a class."""
    system, variables = systems[name]
    assert list(system.stages) == ["finetune"] and system.asks == ("target",)
    target = np.array([1.0, 0, 0, 1]) if name == "class" else np.asarray(batch["target"])
    value, aux = jax.jit(system.stages["finetune"].loss)(variables, batch | {"target": jnp.asarray(target)}, None)
    expected = log_loss(target, np.full(4, 0.5)) if name == "class" else (target**2).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), aux.stats, variables["stats"])
    assert max(jax.tree.leaves(moved)) > 0


def test_fine_tuning_learns_what_can_be_seen(systems, batch):
    """Brains whose brightness rises to one side or to the other."""
    system, variables = systems["supervised"]
    rise = jnp.einsum("b,x->bx", jnp.array([-1.0, 1, -1, 1]), jnp.linspace(-1, 1, SIZE[0]))[:, :, None, None, None]
    batch = batch | {"image": (0.5 + 0.4 * rise) * batch["brain"], "target": jnp.array([-1.0, 1, -1, 1])}
    optimizer, loss = optax.adam(1e-2), system.stages["finetune"].loss

    @jax.jit
    def step(variables, opt):
        (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(variables, batch, None)
        updates, opt = optimizer.update(grads["params"], opt)
        return {"params": optax.apply_updates(variables["params"], updates), "stats": aux.stats}, opt, value

    opt = optimizer.init(variables["params"])
    for _ in range(40):
        variables, opt, value = step(variables, opt)
    assert value < 0.1
    predicted = np.asarray(jax.jit(system.embed)(variables, batch).predicted)
    assert predicted.shape == (4,) and (np.sign(predicted) == np.asarray(batch["target"])).all()


def test_what_is_not_trained_only_measures(systems, batch):
    system, variables = systems["untrained"]
    stage = system.stages["statistics"]
    assert stage.trains == ()
    value, aux = jax.jit(stage.loss)(variables, batch, None)
    assert value == 0
    # Variances, for the mean of a standardised volume may be 0 as it was.
    before, after = (one["encoder"]["stem"]["norm"]["var"] for one in (variables["stats"], aux.stats))
    assert (jnp.abs(after - before) > 1e-3).all()
    assert {"statistics", "finetune"} == set(system.stages)


def test_a_target_that_nothing_is_trained_to_predict_is_refused():
    sentence = "target.column='age' with finetune.kind='gaussian'; 'finetune' or a stage before"
    with pytest.raises(ConfigError, match=sentence):
        checked(tiny(**AGE, init_from="runs/simclr"))


@pytest.mark.parametrize(
    "rival, changes, sentence",
    [
        ("supervised", {"target.column": ""}, "target.column='' with system='supervised'; a column"),
        ("supervised", {"target.kind": "text"}, "target.kind='text'; one of"),
        ("supervised", {"encoder": "vit"}, "encoder='vit'; one of"),
        ("cnn", {"cnn.widths": (4,) * 4}, "data.size=.* with 4 cnn.widths; sides of 16"),
        ("", {"resnet.depths": (1,)}, "resnet.depths=.1,.; as many"),
        ("", {"encoder": "cnn"}, "encoder='cnn' with system='simclr'; 'resnet'"),
        ("mae", {"encoder": "cnn"}, "encoder='cnn' with system='mae'; 'resnet'"),
        ("mae", {"mae.patch": 9}, "mae.patch=9; 1 to 8 voxels"),
        ("mae", {"mae.widths": (4, 4, 4)}, "mae.widths=.* with an encoder of stride 4"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(rival, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        built(rival, **changes)
