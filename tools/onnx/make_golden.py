"""Writes the small PyTorch exports that the Rust tests import.

    python tools/onnx/make_golden.py crates/densenet-onnx/tests/golden

Tiny networks of torchvision and MONAI whose tensors follow the generator of `tools/golden/generator.py`, seed 5, under
torchvision's names; by both exporters, with norms folded into convolutions and not. What the new exporter notes about each
node (source lines, paths) is taken off.
"""

import sys
from pathlib import Path

import onnx
import torch
from monai.networks.nets import DenseNet
from torchvision import models

from pytorch import export
from runtimes import draw

# The values that the Rust tests generate bit by bit alike.
sys.path.append(str(Path(__file__).resolve().parent.parent / "golden"))
import generator  # noqa: E402

SEED = 5
CASES = {
    "torchvision": (lambda: models.DenseNet(4, (2, 1), 6, 2, num_classes=3), (2, 3, 40, 33)),
    "monai": (lambda: DenseNet(3, 1, 3, init_features=6, growth_rate=4, block_config=(2, 1), bn_size=2), (2, 1, 33, 40, 34)),
}


def main(folder):
    for case, (build, shape) in CASES.items():
        network = build().eval()
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if tensor.dim():
                    name = name.replace(".layers.", ".").replace("class_layers.out.", "classifier.")
                    tensor.copy_(torch.from_numpy(generator.parameter(name, tuple(tensor.shape), SEED)))
        for exporter in ("old", "new"):
            for folded in (True, False):
                path = folder / f"{case}-{exporter}{'-folded' if folded else ''}.onnx"
                export(network, torch.from_numpy(draw(shape[0], shape[1], shape[2:])), path, exporter, folded, None)
                strip(path)
                print(path.name, path.stat().st_size)


def strip(path):
    """Leaves graph and tensors; tensors that lay beside the file stay there."""
    model = onnx.load(path, load_external_data=False)
    del model.graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    model.graph.ClearField("doc_string")
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
