"""Other programs' answers held against ours."""

import numpy as np
import onnx
import onnxruntime
import openvino
import tract

from structure import NETWORKS, PRESETS

RTOL, ATOL = 1e-4, 1e-5
BATCHES = (1, 2, 7)
# The first is no multiple of 32, so that every pooling rounds; odd sizes along each axis.
SIZES = {
    ("imagenet", 2): ((75, 61), (96, 128)),
    ("imagenet", 3): ((33, 45, 38), (64, 32, 40)),
    # Few pixels: without bottlenecks these networks are slow, and only the number of pixels is open.
    ("small", 2): ((16, 16), (13, 19)),
    ("small", 3): ((5, 7, 9), (8, 4, 6)),
}
EXPORTS = {
    "fold": ("--fold",),
    "f16": ("--f16",),
    "softmax": ("--softmax",),
    "fold, f16, softmax": ("--fold", "--f16", "--softmax"),
    "opset 13": ("--opset", "13"),
    "opset 21": ("--opset", "21"),
    f"opset {onnx.defs.onnx_opset_version()}": ("--opset", str(onnx.defs.onnx_opset_version())),
}


def versions():
    return f"onnxruntime {onnxruntime.__version__}, openvino {openvino.__version__.split('-')[0]}, tract {tract.version()}"


def check(command):
    for preset in PRESETS:
        stem = "small" if preset.startswith("densenet-") else "imagenet"
        for dims in (2, 3):
            network = (preset, "--dims", str(dims))
            yield case(command, f"{preset} {dims}-D", network, SIZES[stem, dims], ())
    for name, network in NETWORKS.items():
        dims = 3 if "--dims" in network else 2
        sizes = SIZES["small" if "small" in network else "imagenet", dims]
        yield case(command, f"{name}", network, sizes, ())
        for options, words in EXPORTS.items():
            yield case(command, f"{name}, {options}", network, sizes, words)
    for name in ("2-D", "3-D"):
        yield fixed(command, name, NETWORKS[name])
    for how in ("fan-in", "fan-out"):
        yield drawn(command, how)


def case(command, name, network, sizes, options):
    """A network with open batch and sizes."""

    def run():
        model, path, back = command.model(*network), command.folder / "model.onnx", command.folder / "back.safetensors"
        command.run("export", model, "-o", path, "--dynamic", "batch,spatial", *options)
        command.run("import", path, "-o", back)
        # Half precision has rounded the weights, and what comes back has just these.
        reference = back if "--f16" in options else model
        programs = Programs(path)
        worst = {}
        for size in sizes:
            for batch in BATCHES:
                inputs = draw(batch, programs.channels, size)
                expected = command.infer(reference, inputs)
                note(worst, "imported", command.infer(back, inputs), expected)
                if "--softmax" in options:
                    expected = softmax(expected)
                for program, answer in programs.answers(inputs):
                    note(worst, program, answer, expected)
        return report(worst)

    return f"{name}: {' and '.join('x'.join(map(str, size)) for size in sizes)}", run


def fixed(command, name, network):
    """A network whose sizes are all fixed."""

    def run():
        model, path = command.model(*network), command.folder / "model.onnx"
        size = SIZES["imagenet", 3 if "--dims" in network else 2][0]
        worst = {}
        for batch in BATCHES:
            words = ("--dynamic", "none", "--batch", batch, "--input", "x".join(map(str, size)))
            command.run("export", model, "-o", path, *words)
            programs = Programs(path)
            inputs = draw(batch, programs.channels, size)
            expected = command.infer(model, inputs)
            for program, answer in programs.answers(inputs):
                note(worst, program, answer, expected)
        return report(worst)

    return f"{name}, fixed sizes", run


def drawn(command, how):
    """A network as `densenet init` draws it, whose running statistics fit nothing: fan-out makes logits of thousands.

    Some of a thousand such logits lie near zero and are no more exact than the rest, in PyTorch's f32 either, held against
    its f64. So what is allowed here is measured by the largest logit.
    """

    def run():
        model, path = command.folder / "drawn.safetensors", command.folder / "model.onnx"
        command.run("init", "densenet121", "--dims", 3, "--init", how, "-o", model)
        command.run("export", model, "-o", path, "--dynamic", "batch,spatial")
        programs = Programs(path)
        worst, largest = {}, 0.0
        for size in SIZES["imagenet", 3]:
            for batch in BATCHES:
                inputs = draw(batch, programs.channels, size)
                expected = command.infer(model, inputs)
                largest = max(largest, float(np.abs(expected).max()))
                for program, answer in programs.answers(inputs):
                    note(worst, program, answer, expected, ATOL * max(1.0, np.abs(expected).max()))
        return f"{report(worst)}; largest logit {largest:.3g}"

    return f"densenet121 3-D, weights as drawn, {how}", run


class Programs:
    """One file in every program."""

    def __init__(self, path):
        onnxruntime.set_default_logger_severity(3)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        core = openvino.Core()
        self.compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.runnable = tract.onnx().load(path).into_model().into_runnable()
        value = self.session.get_inputs()[0]
        self.input, self.channels = value.name, value.shape[1]

    def answers(self, inputs):
        yield "ONNX Runtime", self.session.run(None, {self.input: inputs})[0]
        yield "OpenVINO", self.compiled(inputs)[0]
        yield "tract", self.runnable.run([inputs])[0].to_numpy()


def draw(batch, channels, size):
    seed = [batch, channels, *size]
    return np.random.default_rng(seed).standard_normal((batch, channels, *size)).astype(np.float32)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def note(worst, program, answer, expected, atol=ATOL):
    """How much of what is allowed the worst element takes; above 1 is a failure."""
    assert answer.shape == expected.shape, f"{program}: {answer.shape} for {expected.shape}"
    assert np.isfinite(answer).all(), f"{program}: NaN or infinite"
    share = (np.abs(answer - expected) / (atol + RTOL * np.abs(expected))).max()
    worst[program] = max(worst.get(program, 0.0), float(share))


def report(worst):
    said = ", ".join(f"{program} {share:.3f}" for program, share in worst.items())
    assert max(worst.values()) <= 1, f"share of the tolerance: {said}"
    return f"share of the tolerance: {said}"
