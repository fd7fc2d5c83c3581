"""The checker, and shape inference held against our shapes value by value."""

import json

import onnx
from onnx import TensorProto, shape_inference

TINY = ("densenet121", "--growth-rate", "4", "--num-init-features", "8", "--num-classes", "5")
NETWORKS = {
    "2-D": (*TINY, "--block-config", "2,3"),
    "3-D": (*TINY, "--block-config", "2,3", "--dims", "3"),
    "plain": (*TINY, "--block-config", "2,2", "--bn-size", "0", "--compression", "1"),
    "new_old": (*TINY, "--block-config", "3,2", "--concat-order", "new_old"),
    "no final norm": (*TINY, "--block-config", "2,2", "--no-final-norm"),
    "small stem": (*TINY, "--block-config", "2,2,2", "--stem", "small"),
    "small stem 3-D": (*TINY, "--block-config", "2,2", "--stem", "small", "--dims", "3"),
    "odd stem": (*TINY, "--block-config", "2,2", "--stem-kernel", "4x5", "--stem-stride", "3x1", "--compression", "0.7"),
    "stem 3x7x7": (*TINY, "--block-config", "2", "--dims", "3", "--stem-kernel", "3x7x7", "--stem-stride", "1x2x2"),
    "bare stem": (*TINY, "--block-config", "1,1", "--stem-norm", "false", "--drop-rate", "0.2"),
}
PRESETS = (
    "densenet121", "densenet161", "densenet169", "densenet201", "densenet264",
    "densenet-40-12", "densenet-100-12", "densenet-100-24",
    "densenet-bc-100-12", "densenet-bc-250-24", "densenet-bc-190-40",
)  # fmt: skip
OPTIONS = {
    "batch": (),
    "batch, spatial": ("--dynamic", "batch,spatial"),
    "spatial": ("--dynamic", "spatial", "--batch", "3"),
    "fixed": ("--dynamic", "none", "--batch", "2"),
    "fold, softmax": ("--dynamic", "batch,spatial", "--fold", "--softmax"),
    "f16": ("--dynamic", "batch,spatial", "--f16"),
    "f16, fold": ("--dynamic", "none", "--f16", "--fold", "--input-name", "image", "--output-name", "class"),
}


def check(command):
    for opset in range(13, onnx.defs.onnx_opset_version() + 1):
        for network in ("2-D", "3-D"):
            for options in ("batch, spatial", "f16, fold", "fold, softmax"):
                yield case(command, network, options, opset)
    for network in NETWORKS:
        for options in OPTIONS:
            yield case(command, network, options, 17)
    for preset in PRESETS:
        for dims in (2, 3):
            yield case(command, f"{preset} {dims}-D", "batch, spatial", 17, (preset, "--dims", str(dims)))


def case(command, network, options, opset, words=None):
    words = words or NETWORKS[network]

    def run():
        path = command.folder / "model.onnx"
        command.run("export", command.model(*words), "-o", path, "--opset", opset, *OPTIONS[options])
        return hold(onnx.load(path), opset)

    return f"{network}, {options}, opset {opset}", run


def hold(model, opset):
    """Everything that can be said about one file."""
    onnx.checker.check_model(model, full_check=True)
    # The checker knows files that were published together.
    assert model.opset_import[0].version == opset and len(model.opset_import) == 1
    assert model.ir_version == onnx.helper.OP_SET_ID_VERSION_MAP[("ai.onnx", opset)]
    assert model.producer_name == "densenet" and model.producer_version and model.doc_string
    metadata = {pair.key: json.loads(pair.value) for pair in model.metadata_props}
    assert metadata["densenet.config"]["growth_rate"] and metadata["densenet.format_version"] == 1
    ours = described(model)
    computed = [name for node in model.graph.node for name in node.output]
    assert len(set(computed)) == len(computed), "a value is computed twice"
    assert set(computed) <= set(ours), f"no shape for {set(computed) - set(ours)}"
    assert set(ours) == set(computed) | {model.graph.input[0].name}, "shapes for values that are not there"
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) and all(name.startswith("/") for name in names)

    named = compare(ours, described(inferred(model, {})), {}, everything=False)
    symbols = sorted({size for _, shape in ours.values() for size in shape if isinstance(size, str) and size.isidentifier()})
    numbers = 0
    for sizes in ((2, 61, 75, 83), (7, 96, 64, 80)) if symbols else ((),):
        values = dict(zip(("batch", "depth", "height", "width"), sizes))
        numbers = compare(ours, described(inferred(model, values)), values, everything=True)
    return f"{len(names)} nodes, {numbers} shapes agree in numbers, {named} by name; open: {', '.join(symbols) or 'nothing'}"


def described(model):
    """Type and shape of every value; sizes are numbers, names or None."""
    size = lambda dim: dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
    graph = model.graph
    return {
        value.name: (value.type.tensor_type.elem_type, [size(dim) for dim in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def inferred(model, values):
    """The same network with nothing but the input's shape, names replaced by `values`, and what onnx makes of it."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for dim in bare.graph.input[0].type.tensor_type.shape.dim:
        if dim.dim_param in values:
            dim.dim_value = values[dim.dim_param]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)


def compare(ours, theirs, values, everything):
    """Holds all our shapes against theirs; how many values agreed completely."""
    whole = 0
    for name, (dtype, shape) in ours.items():
        assert name in theirs, f"{name}: not inferred"
        their_dtype, their_shape = theirs[name]
        assert dtype == their_dtype == TensorProto.FLOAT, f"{name}: {dtype}, inferred {their_dtype}"
        assert len(shape) == len(their_shape), f"{name}: {shape}, inferred {their_shape}"
        for mine, other in zip(shape, their_shape):
            if isinstance(mine, str) and values:
                mine = eval(mine, {}, dict(values))  # noqa: S307 - names of sizes are Python
            if other is None or (isinstance(other, str) and other.startswith("unk__")):
                assert not everything, f"{name}: {shape}, inferred {their_shape}"
                assert isinstance(mine, str), f"{name}: {shape}, inferred {their_shape}"
            else:
                assert mine == other, f"{name}: {shape} ({mine}), inferred {their_shape}"
        whole += all(size is not None and not str(size).startswith("unk__") for size in their_shape)
    return whole
