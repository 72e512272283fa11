"""Steps on paper: collectives read from compiled programs and from written lines, bytes that move; and the commands."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scaling
import training
from commands import symnorm
from jax.sharding import NamedSharding, PartitionSpec
from roofline import Collective, batch_shapes, collectives, traffic

from configs.base import base, finish
from configs.simclr import get_config as simclr
from symnorm_jax.data.pipeline import training_batches
from symnorm_jax.scoring.moments import stream
from symnorm_jax.systems import BUILD
from symnorm_jax.training.flops import count
from symnorm_jax.training.sharding import DATA, make_mesh, replicated

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
LOOP = """HloModule made_up

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %a = f32[4]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
}

%branch (p: f32[8]) -> f32[8] {
  %b = f32[8]{0} reduce-scatter(%x), channel_id=2, replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %c = (s32[], f32[4]{0}) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %d = (s32[], f32[4]{0}) while(%t), condition=%cond, body=%body, backend_config={}
  %e = f32[8]{0} conditional(%i, %u, %v), branch_computations={%branch, %other}
  ROOT %f = bf16[16,2]{1,0:T(8,128)} all-gather(%y), replica_groups=mesh['x'=2,'y'=2] {'y'}, dimensions={0}
}
"""


def of_line(line: str) -> list[Collective]:
    return collectives(f"ENTRY %main (p: f32[4]) -> f32[4] {{\n  %a = {line}\n}}", devices=8)


def compiled(function, *shapes):
    return jax.jit(function).trace(*shapes).lower().compile().as_text()


def placed(shape, *axes, mesh):
    return jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, PartitionSpec(*axes)))


@pytest.mark.two_devices
def test_a_sum_over_devices_is_one_all_reduce_of_the_result():
    """Columns of `[6, 5]` summed over two devices: 5 sums of 4 bytes, of which a ring sends 2 (2 - 1) / 2 = 1 time."""
    found = collectives(compiled(lambda x: x.sum(0), placed((6, 5), DATA, mesh=make_mesh())), 2)
    assert found == [Collective("all-reduce", 20, 2, 1)]
    assert found[0].sent == 20


@pytest.mark.two_devices
def test_what_is_made_whole_is_gathered():
    mesh = make_mesh()
    gather = lambda x: jax.lax.with_sharding_constraint(x, replicated(mesh))  # noqa: E731
    found = collectives(compiled(gather, placed((6, 5), DATA, mesh=mesh)), 2)
    assert found == [Collective("all-gather", 120, 2, 1)]
    assert found[0].sent == 60  # each device lacks one half, and sends its own


@pytest.mark.two_devices
def test_a_scan_exchanges_as_often_as_it_turns():
    def sums(x):
        return jax.lax.scan(lambda total, _: (jnp.tanh(total + (x * total).sum()), None), 1.0, length=7)[0]

    found = collectives(compiled(sums, placed((6,), DATA, mesh=make_mesh())), 2)
    assert [(one.kind, one.payload, one.times) for one in found] == [("all-reduce", 4, 7)]


def test_loops_branches_and_every_way_to_write_groups():
    assert sorted(collectives(LOOP, devices=4)) == [
        Collective("all-gather", 64, 2, 1),
        Collective("all-reduce", 16, 2, 6),  # five turns, and one of a loop whose turns are not known
        Collective("reduce-scatter", 32, 4, 1),
    ]


@pytest.mark.parametrize(
    ("line", "kind", "payload", "group"),
    [
        ("(f32[3]{0}, /*index=1*/bf16[2,2]{1,0}) all-reduce(%x, %y), replica_groups={}", "all-reduce", 20, 8),
        ("f32[3]{0} all-reduce-start(%x), replica_groups=[4,2]<=[2,4]T(1,0)", "all-reduce", 12, 2),
        ("(f32[2]{0}, f32[8]{0}) all-gather-start(%x), replica_groups={{0,1,2,3},{4,5,6,7}}", "all-gather", 32, 4),
        ("(pred[6], pred[6]) collective-permute-start(%x), source_target_pairs={{0,1}}", "collective-permute", 6, 8),
        (
            "f32[8] all-gather(%x), replica_groups=mesh['x'=2,'y'=4], device_ids=([4,2]T(1,0)) {'y'}",
            "all-gather",
            32,
            4,
        ),
        ("f32[8]{0} all-to-all(%x), replica_groups=mesh['x'=8] {'x':(2)4}, dimensions={0}", "all-to-all", 32, 4),
    ],
)
def test_a_collective_is_read_from_its_line(line, kind, payload, group):
    assert of_line(line) == [Collective(kind, payload, group, 1)]


def test_the_end_of_a_collective_is_not_another_one():
    assert of_line("f32[3]{0} all-reduce-done(%all-reduce-start.1)") == []


@pytest.mark.parametrize("ring", [2, 3, 8])
def test_what_rings_send_is_what_walking_round_them_sends(ring):
    """An array of `ring` parts: every device passes parts on to the next one until all have what they should."""
    part = 12
    scatter = gather = (ring - 1) * part  # each turn one part, and after ring - 1 turns it has been everywhere
    assert Collective("reduce-scatter", part, ring, 1).sent == scatter
    assert Collective("all-gather", ring * part, ring, 1).sent == pytest.approx(gather)
    assert Collective("all-reduce", ring * part, ring, 2).sent == pytest.approx(2 * (scatter + gather))
    assert Collective("all-to-all", ring * part, ring, 1).sent == pytest.approx((ring - 1) * part)


def test_traffic_is_of_products_and_of_every_turn():
    """`[3, 4] @ [4, 5]` reads 12 + 20 values and writes 15; half the bytes in half precision, all in every turn."""
    x, y = np.zeros((3, 4), np.float32), np.zeros((4, 5), np.float32)
    bytes_of = lambda function, *args: traffic(jax.make_jaxpr(function)(*args).jaxpr)  # noqa: E731
    assert bytes_of(lambda x, y: jnp.tanh(x @ y), x, y) == 4 * 47
    assert bytes_of(lambda x, y: x @ y, x.astype(np.float16), y.astype(np.float16)) == 2 * 47
    assert bytes_of(lambda x, y: jax.lax.map(lambda _: x @ y, jnp.arange(6)), x, y) == 6 * 4 * 47
    branches = lambda x, y: jax.lax.cond(x[0, 0] > 0, lambda: x @ y, lambda: (x @ y) @ y.T @ y)  # noqa: E731
    assert bytes_of(branches, x, y) == 4 * (47 + (15 + 20 + 12) + 47)


@pytest.mark.parametrize(("config", "asks"), [(finish(base(), "tiny"), ("hidden",)), (simclr("tiny"), ("lesion",))])
def test_a_made_up_batch_has_the_shapes_of_a_real_one(config, asks):
    empty = np.zeros(config.data.size, np.float32)
    slices = {"image": empty[..., None], "brain": empty[..., None], "lesion": empty > 0}
    slices |= {"index": np.int32(0), "patient": np.int32(0)}

    class Slices:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return slices

    real = next(training_batches(Slices(), config, 4, asks=asks))
    assert {name: (x.shape, x.dtype) for name, x in real.items()} == {
        name: (x.shape, x.dtype) for name, x in batch_shapes(config, 4, asks).items()
    }


@pytest.fixture
def quick_compiler():
    """Without optimisations, which take longer than what they would speed up here."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def small(**changes):
    config = finish(base(), "tiny")
    sizes = {"data.size": (16, 16), "unet.widths": (4,), "vae.widths": (4,)}
    config.update_from_flattened_dict(sizes | changes)
    return config


@pytest.mark.two_devices
def test_a_plan_takes_the_shapes_that_training_has():
    config, mesh = small(**{"sharding.smallest": 64}), make_mesh(2)
    system = BUILD["symnorm"](config)
    found = scaling.plan(system, config, "vae", mesh, 8)
    batch = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch_shapes(config, 8).items()}
    real = jax.eval_shape(system.init, jax.random.key(0), batch)["params"]
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shapes(found.state["params"]) == shapes({"vae": real["vae"]})
    assert shapes(found.frozen) == shapes({"unet": real["unet"]})
    weights = [x.shape for x in jax.tree.leaves(real["vae"])]
    shared = sum(int(np.prod(x)) for x in weights if np.prod(x) >= 64 and any(side % 2 == 0 for side in x))
    alone = sum(int(np.prod(x)) for x in weights)
    assert scaling.whole(found.state["params"]) == 4 * alone
    assert scaling.held(found.state["params"]) == 4 * (alone - shared // 2)


@pytest.mark.two_devices
def test_replicas_exchange_their_gradients(quick_compiler):
    """The U-Net's gradients and the mean loss, in float32."""
    config, mesh = small(), make_mesh()
    found = scaling.plan(BUILD["symnorm"](config), config, "unet", mesh, 8)
    text = found.traced.lower().compile().as_text()
    payload = sum(one.payload * one.times for one in collectives(text, 2))
    expected = scaling.whole(found.state["params"])
    assert 0 <= payload - expected <= 4 * 8  # and a scalar or two


def test_times_on_paper_follow_the_slices():
    """Twice the slices: twice the arithmetic, the same exchange; links are hidden from where the roofs meet."""
    config, one = small(), make_mesh(1, jax.devices()[:1])
    system = BUILD["symnorm"](config)
    plans = [scaling.plan(system, config, "unet", one, n) for n in (4, 8, 16)]
    chip = scaling.Chip(flops=1e15, memory=1e9, bandwidth=1e9, link=3e8)
    few, many = (scaling.on_paper(chip, *plans[i : i + 2], 8, 4 << i) for i in (0, 1))
    assert count(plans[1].traced.jaxpr.jaxpr) == pytest.approx(2 * count(plans[0].traced.jaxpr.jaxpr))
    assert many["arithmetic, µs"] == pytest.approx(2 * few["arithmetic, µs"])
    links = 2 * 7 / 8 * scaling.whole(plans[0].state["params"]) / 3e8
    assert many["links, µs"] == few["links, µs"] == pytest.approx(1e6 * links)
    four, eight = (traffic(one.traced.jaxpr.jaxpr) / 1e9 for one in plans[:2])  # seconds on the straight line
    slices = 4 + (links - four) / (eight - four) * 4
    assert slices > 0 and few["links hidden from"] == pytest.approx(slices)
    assert many["links hidden from"] == pytest.approx(slices)


def test_what_is_kept_is_what_the_backward_pass_reads_and_did_not_get_as_an_argument():
    """Of `exp(x @ w)` the `[3, 5]` result in float32; of a part that is computed again nothing but its arguments."""
    x, w = np.zeros((3, 4), np.float32), np.zeros((4, 5), np.float32)
    forward = lambda w: jnp.exp(x @ w).sum()  # noqa: E731
    of = lambda function: scaling.kept(jax.make_jaxpr(lambda w: jax.vjp(function, w)[1])(w).jaxpr)  # noqa: E731
    assert (of(forward), of(jax.checkpoint(forward))) == (4 * 15, 0)


def test_convolutions_are_counted_with_what_they_read_and_once():
    """An image of 36 values to one of 36, that one to two others of which one is pooled; what loops is left out."""
    kernel, image = np.ones((3, 3, 1, 1), np.float32), np.zeros((1, 6, 6, 1), np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")
    filtered = lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)  # noqa: E731

    def forward(x):
        x = filtered(jax.jit(jnp.tanh)(filtered(x)))
        pooled = jax.lax.reduce_window(jnp.exp(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return jax.lax.scan(lambda x, _: (filtered(x), None), filtered(x), length=3)[0].sum() + pooled.sum()

    # Written: three maps. Read beside them: the image, the tanh and the exp.
    assert scaling.convolved(jax.make_jaxpr(forward)(image).jaxpr) == (4 * 3 * 36, 4 * 3 * 36)


def test_what_waits_follows_the_volumes_the_dtype_and_remat():
    """The published encoder in small: `least` doubles with the batch and halves in bfloat16; remat keeps less."""

    def waiting(volumes, **changes):
        config = simclr("tiny")
        config.network.update(changes)
        system = BUILD["simclr"](config)
        alone = scaling.plan(system, config, "pretrain", make_mesh(1, jax.devices()[:1]), volumes)
        return scaling.activations(system, config, "pretrain", alone, volumes)

    one, two, half = waiting(2), waiting(4), waiting(2, dtype="bfloat16")
    for name in ("MiB least", "MiB convolved"):
        assert two[name] == pytest.approx(2 * one[name])
        assert half[name] == pytest.approx(one[name] / 2)
    assert one["MiB convolved"] < one["MiB least"] < one["MiB kept"]
    assert waiting(2, remat=True)["MiB kept"] < one["MiB least"]


def test_as_many_samples_fit_as_leave_the_reserve():
    """A chip of 1 MiB with a tenth in reserve, parameters, gradients and two moments of 10 KiB each, 3 KiB a sample."""
    of = lambda *values: jax.ShapeDtypeStruct(values, np.float32)  # noqa: E731
    alone = scaling.Plan(None, {"params": of(2560), "opt": (of(2560), of(2560))}, {})
    chip = scaling.Chip(flops=1e15, memory=2**20, bandwidth=1e9, link=3e8)
    fit = scaling.fitting(chip, alone, 2, {"MiB least": 6 / 1024, "MiB kept": 6.0})
    assert fit == {"fit, least": int((0.9 * 1024 - 40) / 3), "fit, kept": 0}


@pytest.mark.two_devices
def test_the_scaling_benchmark_prints_its_tables():
    sizes = ("--config.data.size=(16,16)", "--config.unet.widths=(4,)", "--devices=2", "--batch=3", "--no-compile")
    done = symnorm("--config=configs/mets.py:tiny,dae", *sizes, call=scaling.main)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| baseline")]
    assert [row[1] for row in rows] == ["3"] * 4  # a step on three chips
    assert [row[2] for row in rows[1:]] == ["TPU v5e", "H100 SXM", "H200 SXM"]


@pytest.mark.two_devices
def test_the_scaling_benchmark_refuses_devices_it_cannot_have():
    done = symnorm("--config=configs/mets.py:tiny", "--devices=2", "--config.sharding.fsdp=3", call=scaling.main)
    assert done.returncode == 1 and done.stderr.startswith("error: sharding.fsdp=3")


@pytest.mark.two_devices
def test_the_training_benchmark_measures_every_combination(quick_compiler, tmp_path):
    """Two slices a device of two devices; a ratio of slices a second, and these from the seconds of a step."""
    flags = ("--config.data.size=(16,16)", "--config.unet.widths=(4,)", "--remat=false,true", "--steps=2", "--batch=2")
    done = symnorm("--config=configs/mets.py:tiny,dae", *flags, f"--output={tmp_path / 'csv'}", call=training.main)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "csv")
    assert found.stage.tolist() == ["baseline"] * 2 and found.remat.tolist() == [False, True]
    assert (found.slices == 4).all() and "MFU" not in found  # no maker says how fast a CPU is
    np.testing.assert_allclose(found["slices/s"], 4000 / found["ms a step"])
    np.testing.assert_allclose(found.ratio, found["ms a step"][0] / found["ms a step"])
    assert (found["MiB a device"] > 0).all() and found["TFLOP/s"].gt(0).all()


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--remat=maybe", "--remat=maybe"), ("--batch=0", "--batch=0"), ("--dtype=float8", "network.dtype='float8'")],
)
def test_the_training_benchmark_refuses_what_it_cannot_measure(flag, said):
    done = symnorm("--config=configs/mets.py:tiny", flag, call=training.main)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1


def test_drawn_embeddings_are_never_whole_and_stream_like_kept_ones():
    drawn = training.Drawn(300, 6)
    blocks = [drawn[start : start + 64] for start in range(0, len(drawn), 64)]
    kept = np.concatenate(blocks)
    assert kept.shape == drawn.shape == (300, 6) and len(np.unique(kept)) == kept.size
    streamed = stream(drawn, batch=64)
    np.testing.assert_allclose(streamed.mean, kept.mean(0), atol=1e-6)
    np.testing.assert_allclose(streamed.m2 / 300, np.cov(kept.T, bias=True), atol=1e-5)
    assert int(streamed.n) == 300


def test_the_training_benchmark_reads_batches(tmp_path):
    flags = ("--config=configs/simclr.py:tiny", "--input=3", "--batch=2", "--config.data.threads=0")
    done = symnorm(*flags, f"--output={tmp_path / 'csv'}", call=training.main)
    assert done.returncode == 0, done.stderr
    (row,) = pd.read_csv(tmp_path / "csv").itertuples()
    assert (row.stage, row.samples, row.threads) == ("pretrain", 2 * jax.device_count(), 0)
    found = pd.read_csv(tmp_path / "csv")
    np.testing.assert_allclose(found["MB a sample"], 16 * 16 * 12 * 3 * 2 / 1e6)
    assert found["samples/s"].gt(0).all() and found["samples/s of CPU"].gt(0).all()
