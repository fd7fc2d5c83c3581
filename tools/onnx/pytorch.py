"""What PyTorch exports, imported."""

import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path

import monai
import onnxscript
import torch
import torchvision
from monai.networks.nets import DenseNet
from torchvision import models

from runtimes import draw, note, report

# The values that other scripts give networks.
sys.path.append(str(Path(__file__).resolve().parent.parent / "weights"))
from networks import randomise  # noqa: E402

MONAI = {"121": (6, 12, 24, 16), "169": (6, 12, 32, 32), "201": (6, 12, 48, 32), "264": (6, 12, 64, 48)}
TORCHVISION = ("121", "161", "169", "201")
SIZES = {2: (64, 75), 3: (33, 40, 36)}


def versions():
    return f"torch {torch.__version__}, onnxscript {onnxscript.__version__}, torchvision {torchvision.__version__}, monai {monai.__version__}"


def networks():
    tiny = dict(growth_rate=4, num_init_features=8, bn_size=2, num_classes=5)
    small = dict(growth_rate=4, init_features=8, bn_size=2, block_config=(2, 3))
    yield "torchvision tiny", 2, 3, lambda: models.DenseNet(block_config=(2, 3), **tiny)
    yield "torchvision one layer", 2, 3, lambda: models.DenseNet(block_config=(1,), **tiny)
    yield "monai tiny 2-D", 2, 1, lambda: DenseNet(2, 1, 5, **small)
    yield "monai tiny 3-D", 3, 2, lambda: DenseNet(3, 2, 5, **small, dropout_prob=0.3)
    for name in TORCHVISION:
        yield f"torchvision densenet{name}", 2, 3, getattr(models, f"densenet{name}")
    for name, blocks in MONAI.items():
        for dims in (2, 3):
            build = lambda dims=dims, blocks=blocks: DenseNet(dims, 1, 4, block_config=blocks)
            yield f"monai densenet{name} {dims}-D", dims, 1, build


def check(command):
    for name, dims, channels, build in networks():
        for exporter in ("old", "new"):
            for folded in (True, False):
                for opset in (13, 17, None) if "tiny" in name and exporter == "old" else (None,):
                    said = f"{name}, {exporter} exporter, {'folded' if folded else 'as it is'}"
                    said += f", opset {opset}" if opset else ""
                    yield said, lambda b=build, d=dims, c=channels, e=exporter, f=folded, o=opset: hold(command, b, d, c, e, f, o)


def hold(command, build, dims, channels, exporter, folded, opset):
    torch.manual_seed(0)
    network = randomise(build()).eval()
    path, model = command.folder / "pytorch.onnx", command.folder / "model.safetensors"
    export(network, torch.from_numpy(draw(2, channels, SIZES[dims])), path, exporter, folded, opset)
    notes = command.run("import", path, "-o", model)
    assert ("had become part" in notes) == folded, notes
    worst = {}
    for batch in (1, 2, 7):
        inputs = draw(batch, channels, SIZES[dims])
        with torch.no_grad():
            expected = network(torch.from_numpy(inputs)).numpy()
        note(worst, "imported", command.infer(model, inputs), expected)
    return report(worst)


def export(network, inputs, path, exporter, folded, opset):
    """By the exporter of TorchScript or of torch.export; either folds norms into convolutions or leaves them alone."""
    mode = torch.onnx.TrainingMode
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        if exporter == "old":
            training = mode.EVAL if folded else mode.PRESERVE
            axes = {"x": {0: "batch"}}
            options = dict(dynamo=False, training=training, do_constant_folding=folded, dynamic_axes=axes, input_names=["x"])
        else:
            options = dict(dynamo=True, optimize=folded, verbose=False)
        torch.onnx.export(network, (inputs,), path, opset_version=opset, **options)
        logging.disable(logging.NOTSET)
