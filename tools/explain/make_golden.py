#!/usr/bin/env python3
"""Writes crates/densenet/tests/golden/explain.safetensors: what MONAI's CAM, GradCAM and OcclusionSensitivity and Captum's
IntegratedGradients make of two small DenseNets, in f64, and what scipy finds for the temperature of some logits.

    python make_golden.py [--check]

Weights and inputs come from tools/golden/generator.py, which densenet-testkit repeats bit by bit, so only results are
stored. `--check` compares with the file instead of writing it.
"""

import re
import sys
from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients
from monai.networks.nets import DenseNet
from monai.visualize import CAM, GradCAM, OcclusionSensitivity
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "golden"))
import generator  # noqa: E402

TARGET = HERE.parents[1] / "crates/densenet/tests/golden/explain.safetensors"
SEED = 11
CLASS = 3
SHAPES = {2: (1, 3, 33, 30), 3: (1, 1, 17, 21, 18)}
LAYERS = {
    "pool0": "features.pool0",
    "denseblock1.denselayer1.concat": "features.denseblock1.denselayer1",
    "denseblock1": "features.denseblock1",
    "transition1": "features.transition1",
    "denseblock2": "features.denseblock2",
    "norm5": "features.norm5",
}
# Kept in step with crates/densenet/tests/explain.rs.
WINDOWS = {2: ((9, 12), 0.5), 3: ((6, 8, 7), 0.0)}
STEPS = 12


def network(dims):
    """MONAI's DenseNet with generated weights. ReLUs are not in place, which would change what hooks see."""
    net = DenseNet(
        spatial_dims=dims,
        in_channels=SHAPES[dims][1],
        out_channels=5,
        init_features=10,
        growth_rate=6,
        block_config=(2, 3),
        bn_size=2,
        act=("relu", {"inplace": False}),
    )
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            ours = re.sub(r"(denselayer\d+)\.layers\.", r"\1.", name).replace("class_layers.out", "classifier")
            tensor.copy_(torch.from_numpy(generator.parameter(ours, tuple(tensor.shape), SEED)))
    return net.double().eval()


def case(dims):
    net = network(dims)
    x = torch.from_numpy(generator.batch(SHAPES[dims], SEED, 0)).double()
    found = {"logits": net(x)[0]}
    plain = dict(postprocessing=lambda m: m)
    cam = CAM(net, target_layers="class_layers.relu", fc_layers="class_layers.out", **plain)
    found["cam"] = cam(x, class_idx=[CLASS])[0, 0]
    for ours, theirs in LAYERS.items():
        found[f"gradcam.{ours}"] = GradCAM(net, target_layers=theirs, **plain)(x, class_idx=[CLASS])[0, 0]
    window, overlap = WINDOWS[dims]
    # The activation is given: by itself MONAI takes a sigmoid where the *input* has one channel.
    occlusion = OcclusionSensitivity(
        net, mask_size=window, overlap=overlap, mode=0.5, activate=lambda z: z.softmax(1), verbose=False
    )
    with torch.no_grad():
        covered, _ = occlusion(x)
    found["occlusion"] = net(x).softmax(1)[0, CLASS] - covered[0, CLASS]
    baseline = torch.full_like(x, 0.25)
    integrated = IntegratedGradients(net)
    found["integrated"] = integrated.attribute(
        x, baseline, target=CLASS, n_steps=STEPS, method="riemann_middle", internal_batch_size=4
    )[0]
    return {f"{dims}d.{name}": value.detach().numpy().astype(np.float64) for name, value in found.items()}


def main():
    torch.manual_seed(0)
    found = case(2) | case(3)
    if "--check" in sys.argv[1:]:
        stored = load_file(TARGET)
        assert stored.keys() == found.keys(), stored.keys() ^ found.keys()
        for name, value in found.items():
            error = np.abs(stored[name] - value).max() / np.abs(value).max()
            print(f"{name:45} {value.shape!s:18} {error:.1e}")
            assert error < 1e-6, name
        return
    save_file({name: np.ascontiguousarray(v.astype(np.float32)) for name, v in found.items()}, TARGET)
    print(f"{TARGET}: {len(found)} tensors, {TARGET.stat().st_size} bytes")


main()
