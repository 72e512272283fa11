"""Symmetry-aware cross-attention: what holds exactly of mirror images, each task by hand, and views by example."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax import export
from scipy import ndimage
from scipy.special import erf
from test_end_to_end import config_of

from symnorm_jax import losses
from symnorm_jax.checks import checked
from symnorm_jax.data.volumes import write_nifti
from symnorm_jax.errors import ConfigError
from symnorm_jax.files import load_arrays, read_json, save_arrays
from symnorm_jax.geometry import mirror, mirror_batch
from symnorm_jax.models import saca as nets
from symnorm_jax.run import Run
from symnorm_jax.rundir import open_run
from symnorm_jax.systems import BUILD, pairs
from symnorm_jax.systems.saca import SACA, TASKS

SIDE = 12

pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny(size="tiny", **changes):
    config = config_of("saca", size)
    changed = {name.replace("__", "."): x for name, x in changes.items()}
    config.update_from_flattened_dict({"data.size": (SIDE,) * 3} | changed)
    return config


def batch_of(count=4) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    grid = np.moveaxis(np.indices((SIDE,) * 3), 0, -1) - (SIDE - 1) / 2
    brain = np.broadcast_to(((grid**2).sum(-1) < 25)[..., None], (count, *(SIDE,) * 3, 1)).astype(np.float32)
    image = brain * rng.uniform(0.2, 1, brain.shape).astype(np.float32)
    who = {"index": jnp.arange(count), "patient": jnp.arange(count), "healthy": jnp.array([1.0, 0, 1, 0])[:count]}
    return {"image": jnp.asarray(image), "brain": jnp.asarray(brain)} | who


@pytest.fixture(scope="module")
def fresh():
    """Model, variables and batch."""
    model, batch, rng = SACA(tiny()), batch_of(), np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)  # to initialise would compile for seconds
    return model, jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), shapes), batch


@pytest.fixture(scope="module")
def drawn(fresh):
    """The views of the batch by a key."""
    return jax.jit(fresh[0].views)(fresh[2], jax.random.key(3))


def test_a_volume_scores_as_its_mirror_image_does_and_a_symmetric_one_exactly_0(fresh):
    model, variables, batch = fresh
    image = batch["image"]
    image = jnp.stack([image[0], mirror(image[0]), image[1], (image[3] + mirror(image[3])) / 2])
    found = jax.jit(model.embed)(variables, batch | {"image": image})
    score, shown = np.asarray(found.scalars["asymmetry"]), np.asarray(found.map)
    np.testing.assert_allclose(score[0], score[1], rtol=1e-4)
    assert score[3] == 0 and (shown[3] == 0).all() and (score[:3] > 1e-3).all()
    assert shown.shape == image.shape[:-1] and (shown[0] > 0).any() and not (shown * (1 - batch["brain"][..., 0])).any()


def test_features_are_those_that_fine_tuning_begins_with(fresh):
    model, variables, batch = fresh
    both = jax.jit(lambda *given: (model.embed(*given).z, model.encoder.embed(*given).z))(variables, batch)
    assert both[0].shape == (4, 16)
    np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-5)


def test_what_embeds_is_exported_for_batches_of_any_size(fresh):
    model, variables, batch = fresh
    (size,) = export.symbolic_shape("B")
    given = {name: jax.ShapeDtypeStruct((size, *batch[name].shape[1:]), jnp.float32) for name in ("image", "brain")}
    found = export.export(jax.jit(partial(model.embed, variables)))(given).out_avals
    assert [one.shape[1:] for one in found] == [(16,), (), (SIDE,) * 3]


def by_hand(model, variables, batch, drawn) -> dict[str, float]:
    """The four losses in float64, from what the networks make of the views."""

    @jax.jit
    def made(variables, volumes):  # [2 views, seen clean mirrored, B, *S, 1]
        asked = partial(model.encoder.net.apply, {"params": variables["params"]["encoder"]})
        tokens = asked(volumes.reshape(-1, *volumes.shape[3:]), method="tokens")
        tokens = tokens.reshape(*volumes.shape[:3], *tokens.shape[1:])
        seen, mirrored = (tokens[:, i].reshape(-1, *tokens.shape[3:]) for i in (0, 2))
        attended = asked(seen, mirrored, method="attend")
        painted = model.decoder.apply({"params": variables["params"]["decoder"]}, attended)
        return tokens, attended, painted

    volumes = jnp.stack([drawn.seen, drawn.clean, drawn.mirrored], 1).transpose(2, 1, 0, 3, 4, 5, 6)
    tokens, attended, painted = (np.asarray(x, float) for x in made(variables, volumes))
    heads = jax.tree.map(lambda x: np.asarray(x, float), variables["params"]["heads"])
    answer = lambda name, x: x @ heads[name]["kernel"] + heads[name]["bias"]  # noqa: E731
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    symmetry = 0.0
    for view in range(2):
        own, other = (unit(answer("symmetry", tokens[view, i]).reshape(4, -1)) for i in (1, 2))
        cosine = (own * other).sum(-1)
        chance = 1 / (1 + np.exp(-cosine))
        symmetry += -np.log(np.where(np.asarray(batch["healthy"]) > 0, chance, 1 - chance)).mean()
    pooled = attended.reshape(8, -1, 16).mean(1)
    logits = answer("rotation", pooled)
    turns = np.asarray(drawn.turn).T.ravel()
    rotation = (np.log(np.exp(logits).sum(1)) - logits[np.arange(8), turns]).mean()
    projected = unit(answer("contrast", pooled))
    likeness = np.exp(projected @ projected.T / 0.5)
    pairs_ = [-np.log(likeness[i, (i + 4) % 8] / (likeness[i].sum() - likeness[i, i])) for i in range(8)]
    clean = np.asarray(volumes[:, 1], float).reshape(painted.shape)
    found = (symmetry, rotation, np.mean(pairs_), np.abs(painted - clean).mean())
    return dict(zip(TASKS, found, strict=True))


def test_each_task_by_hand_and_their_weighted_sum(fresh, drawn):
    model, variables, batch = fresh
    value, aux = jax.jit(model.loss)(variables, batch, jax.random.key(3))
    expected = by_hand(model, variables, batch, drawn)
    assert aux.metrics.keys() == expected.keys()
    for task, term in expected.items():
        np.testing.assert_allclose(aux.metrics[task], term, rtol=1e-4, err_msg=task)
    np.testing.assert_allclose(value, 0.5 * expected["symmetry"] + sum(expected[task] for task in TASKS[1:]), rtol=1e-4)


def test_views_of_an_example_do_not_depend_on_its_batch(fresh, drawn):
    """Nor on its place in it; another view, and another step, are others."""
    model, _, batch = fresh
    order = jnp.array([2, 0, 3, 1])
    turned = {name: x[order] for name, x in batch.items()} | {"image": batch["image"][order].at[0].multiply(0.5)}
    found = jax.jit(model.views)(turned, jax.random.key(3))
    for one, other in zip(found, drawn, strict=True):
        np.testing.assert_array_equal(one[1:], other[order][1:])
    assert (drawn.seen[:, 0] != drawn.seen[:, 1]).any((1, 2, 3, 4)).all()
    hidden = (drawn.seen != drawn.clean).mean((2, 3, 4, 5))
    assert (hidden > 0).all() and len(np.unique(hidden)) > 4
    clean, mirrored = (x.reshape(8, *(SIDE,) * 3, 1) for x in (drawn.clean, drawn.mirrored))
    np.testing.assert_array_equal(mirror_batch(mirrored), clean)


def test_turns_leave_left_and_right_alone(rng):
    x = jnp.asarray(rng.normal(size=(4, 3, 3, 1)), jnp.float32)
    for turn in range(4):
        once = pairs.turned(x, jnp.array(turn))
        np.testing.assert_array_equal(pairs.turned(mirror(x), jnp.array(turn)), mirror(once))
        np.testing.assert_array_equal(once[0].ravel().sort(), x[0].ravel().sort())  # within each sagittal plane
        assert turn == 0 or (once != x).any()


def test_a_crop_of_the_mirror_image_is_the_mirror_image_of_the_crop_opposite(rng):
    x = jnp.asarray(rng.normal(size=(7, 6, 5, 1)), jnp.float32)
    starts = set()
    for seed in range(12):
        one, other = pairs.cropped(jax.random.key(seed), x, 4)
        at = [start for start in np.ndindex(4, 3, 2) if (x[tuple(slice(s, s + 4) for s in start)] == one).all()]
        (i, j, k), opposite = at[0], 7 - 4 - at[0][0]
        np.testing.assert_array_equal(other, mirror(x[opposite : opposite + 4, j : j + 4, k : k + 4]))
        starts.add(i)
    assert starts == {0, 1, 2, 3}
    np.testing.assert_array_equal(pairs.cropped(jax.random.key(0), x, 0)[1], mirror(x))


def test_blocks_reach_the_share_that_is_drawn():
    """Of 20 voxels a side blocks have 1 to 4; the last one may go beyond the share, by no more than itself."""
    cut_out = jax.vmap(lambda key: pairs.cut_out(key, (20, 20, 20), 0.3, (0.05, 0.25)))
    shares = np.asarray(cut_out(jax.random.split(jax.random.key(0), 30)).mean((1, 2, 3, 4)))
    assert 0 < shares.min() < 0.05 and 0.15 < shares.max() < 0.3 + 4**3 / 20**3
    assert not pairs.cut_out(jax.random.key(0), (20, 20, 20), 0.0, (0.05, 0.25)).any()


@pytest.mark.parametrize(
    "name, cosine, healthy, expected",
    [
        *(("bce", c, 1.0, value) for c, value in ((1.0, 0.31326), (0.0, 0.69315), (-1.0, 1.31326))),
        *(("bce", c, 0.0, value) for c, value in ((1.0, 1.31326), (-1.0, 0.31326))),
        *(("linear", c, h, value) for c, h, value in ((0.2, 1.0, 0.8), (0.2, 0.0, 0.2))),
        ("scaled", 0.5, 1.0, np.log1p(np.exp(-(4 * 0.5 - 1)))),
    ],
)
def test_losses_of_symmetry_by_hand(name, cosine, healthy, expected):
    scale = jnp.array([np.log(4), -1.0])
    found = losses.SYMMETRY[name](jnp.array([cosine]), jnp.array([healthy]), scale)
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_the_share_of_the_healthy_by_hand():
    cosine, scale = jnp.array([0.07, 0.0, 0.14]), jnp.zeros(2)
    e = np.exp([1.0, 0, 2])
    found = losses.nce(cosine, jnp.array([1.0, 0, 1]), scale)
    np.testing.assert_allclose(found, np.full(3, -np.log((e[0] + e[2]) / e.sum())), rtol=1e-4)
    np.testing.assert_allclose(losses.nce(cosine, jnp.ones(3), scale), 0, atol=1e-5)
    assert np.isfinite(losses.nce(cosine, jnp.zeros(3), scale)).all()


def test_asymmetry_is_half_of_what_the_cosine_lacks_and_has_a_gradient_at_0(rng):
    one, other = jnp.asarray(rng.normal(size=(2, 5, 7)), jnp.float32)
    cosine = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    np.testing.assert_allclose(losses.asymmetry(one, other), (1 - cosine) / 2, rtol=1e-4)
    gradient = jax.grad(lambda x: losses.asymmetry(x, other).sum())(jnp.zeros_like(one))
    assert np.isfinite(gradient).all() and (losses.asymmetry(one, one) == 0).all()


def test_cross_attention_is_a_layer_of_bert(rng):
    """In float64: attention to itself, to the mirror image and an MLP, each added and then normalised."""
    x, y = rng.normal(size=(2, 2, 5, 8)).astype(np.float32)
    net = nets.CrossAttention(2)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, y)
    params = jax.tree.map(lambda one: rng.normal(0, 0.5, one.shape).astype(np.float32), shapes["params"])

    def linear(x, of):
        return x @ of["kernel"].astype(float) + of["bias"]

    def normed(x, of):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * of["scale"] + of["bias"]

    def attended(x, y, of):
        q, k, v = (linear(z, of[name]).reshape(2, 5, 2, 4) for z, name in ((x, "query"), (y, "key"), (y, "value")))
        shares = np.exp(np.einsum("bnhd,bmhd->bhnm", q, k) / 2)
        shares /= shares.sum(-1, keepdims=True)
        found = np.einsum("bhnm,bmhd->bnhd", shares, v).reshape(2, 5, 8)
        return normed(linear(found, of["out"]) + x, of["norm"])

    expected = attended(x, x, params["own"])
    expected = attended(expected, y, params["across"])
    hidden = linear(expected, params["mlp"]["linear1"])
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    expected = normed(linear(hidden, params["mlp"]["linear2"]) + expected, params["norm"])
    np.testing.assert_allclose(jax.jit(net.apply)({"params": params}, x, y), expected, rtol=1e-4, atol=1e-5)


def test_parameters_of_the_released_networks():
    key, count = jax.random.key(0), lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    tokens, scale = jnp.zeros((1, 8, 768)), 2
    assert count(jax.eval_shape(nets.CrossAttention(12).init, key, tokens, tokens)) == 9_451_776
    assert count(jax.eval_shape(nets.Heads().init, key, tokens[:, 0])) == 790_532 + scale
    decoder = nets.Reconstruction((96, 96, 96), 5)
    assert count(jax.eval_shape(decoder.init, key, tokens.reshape(1, 2, 2, 2, 768))) == 10_638_385
    encoder = partial(nets.PairedSwin().init, train=False)
    assert count(jax.eval_shape(encoder, key, jnp.zeros((1, 64, 64, 64, 1)))) == 8_062_002 + 9_451_776


def test_a_task_of_weight_0_is_left_out():
    """With symmetry its labels too, and with painting its decoder; without cross-attention the block."""
    system = checked(tiny("tiny,no symmetry", saca__inpaint=0.0))
    assert system.asks == () and system.stages["pretrain"].trains == ("encoder", "heads")
    batch = {name: x for name, x in batch_of().items() if name != "healthy"}
    variables = jax.eval_shape(system.init, jax.random.key(0), batch)
    _, aux = jax.eval_shape(system.stages["pretrain"].loss, variables, batch, jax.random.key(1))
    assert aux.metrics.keys() == {"rotation", "contrast"}
    plain = jax.eval_shape(checked(tiny("tiny,no SACA")).init, jax.random.key(0), batch)
    assert plain["params"]["encoder"].keys() == {"swin"} and variables["params"]["encoder"].keys() == {"swin", "saca"}
    assert checked(tiny()).asks == ("healthy",) and checked(tiny()).scores == ("asymmetry",)


def test_training_may_see_crops_of_what_is_embedded_whole():
    system = checked(tiny(data__size=(16, 13, 14), saca__crop=12))
    batch = {name: jax.ShapeDtypeStruct((4, 16, 13, 14, 1), jnp.float32) for name in ("image", "brain")}
    batch |= {name: jax.ShapeDtypeStruct((4,), jnp.int32) for name in ("index", "patient", "healthy")}
    variables = jax.eval_shape(system.init, jax.random.key(0), batch)
    _, aux = jax.eval_shape(system.stages["pretrain"].loss, variables, batch, jax.random.key(1))
    assert aux.metrics.keys() == set(TASKS)
    assert jax.eval_shape(system.embed, variables, batch).map.shape == (4, 16, 13, 14)


def test_what_is_corrupted_is_compared_only_where_that_is_asked_for(fresh, drawn):
    """The release compares what has holes with a mirror image that has none."""
    model, variables, batch = fresh
    corrupted = SACA(tiny(saca__symmetry_on="corrupted", saca__rotation=0.0, saca__contrast=0.0, saca__inpaint=0.0))
    terms = jax.jit(corrupted.terms)
    found = [terms(variables, batch, drawn._replace(clean=clean)) for clean in (drawn.clean, 0 * drawn.clean)]
    assert found[0]["symmetry"] == found[1]["symmetry"]
    whole = terms(variables, batch, drawn._replace(seen=drawn.clean))["symmetry"]
    np.testing.assert_allclose(whole, by_hand(model, variables, batch, drawn)["symmetry"], rtol=1e-4)
    assert abs(whole - found[0]["symmetry"]) > 1e-4


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"data__size": (16, 16)}, "data.size=.16, 16. with system='saca'; three sides"),
        ({"data__size": (16, 16, 12)}, "data.size=.16, 16, 12. .*saca.rotation=1.0; a second and a third side"),
        ({"data__size": (8, 8, 8)}, "data.size=.8, 8, 8. with 2 swin.depths; sides above 8"),
        ({"data__train_on": "healthy_people"}, "data.train_on='healthy_people' with saca.symmetry=0.5.*'everyone'"),
        ({f"saca__{task}": 0.0 for task in TASKS}, "saca.symmetry, .*all are 0"),
        ({"saca__loss": "cosine"}, "saca.loss='cosine'; one of"),
        ({"saca__symmetry_on": "both"}, "saca.symmetry_on='both'; one of"),
        ({"saca__crop": 8}, "saca.crop=8; 0, or sides above 8 up to 12"),
        ({"swin__merging": "merging"}, "swin.merging='merging'; one of"),
        ({"swin__heads": (3, 2)}, "swin.heads=.3, 2., .*; divisors of"),
        ({"swin__depths": (1,)}, "swin.heads=.*swin.depths=.1,.; as many"),
        ({"swin__patch": 3, "data__size": (16, 16, 16)}, "swin.patch=3 with saca.inpaint; a power of 2"),
        ({"encoder": "resnet"}, "encoder='resnet'; one of"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        checked(tiny(**changes))


def test_maps_that_healthy_people_measure_are_not_measured_by_everyone():
    config = config_of("demo")
    config.data.train_on = "everyone"
    with pytest.raises(ConfigError, match="data.train_on='everyone' with system='symnorm', whose maps"):
        checked(config)


def test_the_gaussian_is_of_healthy_people_among_those_trained_on(tmp_path, rng):
    config = tiny(score__shrinkage="oas")
    rows = pd.DataFrame({"patient": [f"p{i}" for i in range(20)], "healthy_person": np.arange(20) < 12})
    rows = rows.assign(label=np.where(rows.healthy_person, "healthy", "abnormal"), split="train")
    rows.rename_axis("index").to_csv(tmp_path / "manifest.csv")
    z = rng.normal(size=(20, 3)).astype(np.float32) + np.where(rows.healthy_person, 0, 100)[:, None]
    (tmp_path / "embeddings").mkdir()
    save_arrays(tmp_path / "embeddings" / "train.npz", {"index": np.arange(20), "z": z.astype(np.float32)})
    run = Run(config, tmp_path)
    run.fit()
    found = load_arrays(tmp_path / "gaussian.npz")
    assert found["n"] == 12
    np.testing.assert_allclose(found["mean"], z[:12].mean(0), atol=1e-4)


def test_saca_is_fine_tuned_as_other_encoders_are():
    system = BUILD["saca"](tiny(target__column="age"))
    assert list(system.stages) == ["pretrain", "finetune"] and system.asks == ("target", "healthy")
    assert system.stages["finetune"].trains == ("encoder", "head")


def write_heads(folder: Path, people: int, side: int = 16) -> Path:
    """Heads that are symmetric but for a little, every other with a ball on one side, brighter or darker."""
    grid, lines = np.moveaxis(np.indices((side,) * 3), 0, -1) - (side - 1) / 2, ["path,patient,label,lesion_path"]
    affine, away = np.diag([12.0, 12, 12, 1]), np.abs(grid[..., 0]) > 0.12 * side
    for i in range(people):
        rng = np.random.default_rng([7, i])
        brain = ((grid / (np.array([0.36, 0.44, 0.40]) * side * rng.uniform(0.92, 1.08, 3))) ** 2).sum(-1) < 1
        even, uneven = (ndimage.gaussian_filter(rng.normal(size=brain.shape), 1.5) for _ in range(2))
        voxels = 0.6 + 0.1 * (even + mirror(even)) / even.std() / 2**0.5 + 0.05 * uneven / uneven.std()
        voxels += 0.02 * rng.normal(size=brain.shape)
        centre = rng.permutation(np.argwhere(brain & away))[0] - (side - 1) / 2
        lesion = brain & (((grid - centre) ** 2).sum(-1) < (rng.uniform(0.12, 0.2) * side) ** 2)
        voxels += rng.choice([-0.3, 0.3]) * lesion * (i % 2)
        write_nifti(folder / f"{i}.nii.gz", (1000 * voxels * brain).astype(np.float32), affine, "RAS")
        write_nifti(folder / f"{i}_lesion.nii.gz", lesion.astype(np.uint8), affine, "RAS")
        lines.append(f"{i}.nii.gz,p{i}," + (f"abnormal,{i}_lesion.nii.gz" if i % 2 else "healthy,"))
    (folder / "scans.csv").write_text("\n".join(lines) + "\n")
    return folder / "scans.csv"


def run_of_heads(folder: Path, config, people: int, changes: dict) -> Path:
    """Take a config through a run of `write_heads`, and give its directory."""
    changes = {"data.source": "table", "data.root": str(write_heads(folder / "heads", people))} | changes
    changes |= {"data.brain": "nonzero", "data.midline": "centred", "data.min_lesion": 0.0}
    with config.unlocked():
        config.data.options = {"channel": "path"}
    config.update_from_flattened_dict(changes | {"data.store": str(folder / "store"), "data.workers": 1})
    open_run(folder / "run", config.lock(), {})
    Run(config, folder / "run").everything()
    return folder / "run"


@pytest.mark.long
def test_one_sided_lesions_are_told_without_a_fit(tmp_path):
    """From scans to report: 180 people learned from, 75 judged; the whole map of a volume is judged too."""
    config = tiny("tiny,only symmetry", data__size=(16, 16, 16), swin__embed=12, swin__depths=(2,), swin__heads=(1,))
    changes = {"swin.window": 4, "swin.cross_heads": 0, "saca.features": 64, "saca.loss": "scaled"}
    changes |= {"train.pretrain.steps": 200, "train.pretrain.optimizer.learning_rate": 3e-3}
    changes |= {"train.pretrain.optimizer.warmup_steps": 50}
    run = run_of_heads(tmp_path, config, 300, changes)
    results = read_json(run / "metrics.json")
    assert results["patient"]["asymmetry"]["auroc"]["value"] > 0.9
    assert results["pixel"].keys() == {"map", "trivial_brightness", "trivial_mirror"}
    assert any(note.startswith("Weakly supervised: this run") for note in results["notes"])
    shown = load_arrays(run / "embeddings" / "test.npz", "map")["map"]
    assert shown.shape[1:] == (16, 16, 16)
    print({name: {of: results["patient"][name][of] for of in ("auroc",)} for name in ("asymmetry", "trivial_mirror")})
    print({name: results["pixel"][name]["average_precision"] for name in results["pixel"]})


def test_a_rival_in_the_notebook_is_told_nothing():
    config = config_of("saca", "tiny,mae")
    assert (config.data.train_on, checked(config.lock()).asks) == ("healthy_people", ())
    assert config_of("saca", "tiny,no rotation").data.train_on == "everyone"
