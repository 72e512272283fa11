"""Write the two networks of deepbet, LinkNets as TorchScript in its wheel, as the ONNX files that symnorm_jax ships.

pip install torch==2.13.0 onnx==1.23.2 deepbet==1.0.2 && python weights/make_deepbet.py

Kept so that anybody can make the files again. Their weights are numbers of float16 in the wheel already, kept as
float32: half the bytes lose nothing. The last layer is made to give the log odds of brain, of which softmax made two
probabilities: one channel of 256^3 in place of two, twice.
"""

import hashlib
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

OUTPUT = Path(__file__).parents[1] / "symnorm_jax/data/weights"
NETWORKS = {"bbox_model": ("deepbet_box", 128), "model": ("deepbet_brain", 256)}  # and the voxels of a side


def export(source: Path, target: Path, side: int) -> None:
    """Write a network that takes a head [1, 1, side, side, side] and gives the log odds of brain, alike."""
    network = torch.jit.load(source, map_location="cpu").eval()
    names = {"input_names": ["head"], "output_names": ["brain"]}
    torch.onnx.export(network, (torch.zeros(1, 1, 32, 32, 32),), target, opset_version=17, dynamo=False, **names)
    model = onnx.load(target)
    for end in (*model.graph.input, *model.graph.output):
        for length in end.type.tensor_type.shape.dim[2:]:
            length.dim_value = side
    log_odds(model.graph)
    halve(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def log_odds(graph: onnx.GraphProto) -> None:
    """End with the difference of the two channels, which is what softmax makes probabilities of."""
    last, softmax = graph.node[-2:]
    assert (last.op_type, softmax.op_type) == ("ConvTranspose", "Softmax")
    for values in graph.initializer:
        if values.name in last.input[1:]:
            array = numpy_helper.to_array(values)  # a weight [16, 2, 2, 2, 2] or a bias [2]
            difference = np.diff(array, axis=array.ndim > 1)
            values.CopyFrom(numpy_helper.from_array(difference, values.name))
    last.output[0] = softmax.output[0]
    graph.node.remove(softmax)
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1


def halve(graph: onnx.GraphProto) -> None:
    """Keep as float16 what float16 holds exactly; the runtime casts it back once, when it loads the file."""
    casts = []
    for values in graph.initializer:
        array, name = numpy_helper.to_array(values), values.name
        half = array.astype(np.float16)
        if (half == array).all():
            values.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def main() -> None:
    wheel = distribution("deepbet")
    for name, (target, side) in NETWORKS.items():
        file = OUTPUT / f"{target}.onnx"
        export(wheel.locate_file(f"data/models/{name}.pt"), file, side)
        print(file.name, file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    (OUTPUT / "LICENSE.deepbet").write_text(wheel.read_text("LICENSE"))


if __name__ == "__main__":
    main()
