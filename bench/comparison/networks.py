"""The same networks in PyTorch: torchvision's classes in 2-D, MONAI's in 3-D, the paper's CIFAR networks by structure."""

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from .presets import PRESETS


def build(preset, dims, blocks=None, memory_efficient=False):
    """A network with PyTorch's own fresh weights; `blocks` replaces the preset's block_config."""
    growth, init, usual = PRESETS[preset]
    blocks = tuple(blocks or usual)
    if dims == 3:
        from monai.networks.nets import DenseNet

        return DenseNet(3, 1, 1000, init_features=init, growth_rate=growth, block_config=blocks)
    if len(usual) == 4:
        return torchvision.models.DenseNet(growth, blocks, init, memory_efficient=memory_efficient)
    if preset == "densenet-40-12":
        return Plain(growth, blocks, init)
    net = torchvision.models.DenseNet(growth, blocks, init, num_classes=10, memory_efficient=memory_efficient)
    net.features = small_stem(net.features, init)
    return net


def small_stem(features, width):
    """The same features behind a 3×3 convolution of stride 1."""
    small = nn.Sequential()
    small.add_module("conv0", nn.Conv2d(3, width, 3, padding=1, bias=False))
    for name, module in features.named_children():
        if name not in ("conv0", "norm0", "relu0", "pool0"):
            small.add_module(name, module)
    return small


class PlainLayer(nn.Module):
    def __init__(self, c_in, growth):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv1(torch.relu(self.norm1(x)))], 1)


class Plain(nn.Module):
    """The paper's network without bottleneck and compression."""

    def __init__(self, growth, blocks, width):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, width, 3, padding=1, bias=False))
        for b, layers in enumerate(blocks, 1):
            block = nn.Sequential()
            for layer in range(1, layers + 1):
                block.add_module(f"denselayer{layer}", PlainLayer(width, growth))
                width += growth
            self.features.add_module(f"denseblock{b}", block)
            if b < len(blocks):
                transition = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(width))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", nn.Conv2d(width, width, 1, bias=False))
                transition.add_module("pool", nn.AvgPool2d(2))
                self.features.add_module(f"transition{b}", transition)
        self.features.add_module(f"norm{len(blocks) + 2}", nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, 10)

    def forward(self, x):
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))


def load(task):
    """The network of a job with the job's weights."""
    net = build(task["preset"], task["dims"], task.get("blocks"), task.get("memory_efficient", False))
    net.load_state_dict(load_file(task["weights"]), strict=True)
    return net


def layout(data):
    """Channels-last for this rank."""
    return {4: torch.channels_last, 5: torch.channels_last_3d}[data.ndim]
