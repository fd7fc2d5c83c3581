"""Tiny DenseNets of every dialect, and the formula their weights follow.

torchvision, MONAI and timm are the installed classes. The other programs' networks are rebuilt here by structure: the
same module names and tensor shapes in the same order, without a forward pass, which is all that loading needs.
"""

import re

import torch
from torch import nn

GROWTH, BN_SIZE, INIT, CLASSES = 2, 2, 4, 3
STEPS = 7


def fnv1a(text):
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def formula(name, shape):
    """Element i of tensor `name`: 23 bits of a hash, in [-0.5, 0.5), exact in f32; running variances 1 more."""
    count = int(torch.tensor(shape).prod()) if shape else 1
    index = torch.arange(count, dtype=torch.int64)
    bits = ((fnv1a(name) + index * 2654435761) & 0xFFFFFFFF) >> 9
    values = bits.to(torch.float64) / 2**23 - 0.5
    if name.endswith("running_var"):
        values += 1.0
    return values.to(torch.float32).reshape(shape)


def fill(state):
    """The state dict with every tensor set by the formula, counters to STEPS."""
    with torch.no_grad():
        for name, tensor in state.items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(STEPS)
            else:
                tensor.copy_(formula(name, tuple(tensor.shape)))
    return state


def build(layers):
    """A module tree from (dotted path, module) pairs."""
    root = nn.Module()
    for path, module in layers:
        *parents, last = path.split(".")
        node = root
        for parent in parents:
            if parent not in node._modules:
                node._modules[parent] = nn.Module()
            node = node._modules[parent]
        node._modules[last] = module
    return root


def conv(dims, c_in, c_out, kernel):
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    return kind(c_in, c_out, kernel, padding=kernel // 2, bias=False)


def norm(dims, channels):
    return (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(channels)


def dense_net(
    dims,
    blocks,
    in_channels=3,
    stem=("features.conv0", "features.norm0"),
    stem_kernel=7,
    layer="features.denseblock{b}.denselayer{l}",
    first_layer=1,
    ops=("norm1", "conv1", "norm2", "conv2"),
    transition="features.transition{b}",
    transition_ops=("norm", "conv"),
    final="features.norm5",
    classifier="classifier",
):
    layers = [(stem[0], conv(dims, in_channels, INIT, stem_kernel))]
    if stem[1]:
        layers.append((stem[1], norm(dims, INIT)))
    channels = INIT
    for b, count in enumerate(blocks, 1):
        for l in range(count):
            path = layer.format(b=b, l=l + first_layer)
            wide = BN_SIZE * GROWTH
            modules = [
                norm(dims, channels),
                conv(dims, channels, wide, 1),
                norm(dims, wide),
                conv(dims, wide, GROWTH, 3),
            ]
            layers += [(f"{path}.{op}", module) for op, module in zip(ops, modules)]
            channels += GROWTH
        if b < len(blocks):
            path = transition.format(b=b)
            layers.append((f"{path}.{transition_ops[0]}", norm(dims, channels)))
            layers.append((f"{path}.{transition_ops[1]}", conv(dims, channels, channels // 2, 1)))
            channels //= 2
    if final:
        layers.append((final, norm(dims, channels)))
    layers.append((classifier, nn.Linear(channels, CLASSES)))
    return build(layers)


LAYERS = ("layers.norm1", "layers.conv1", "layers.norm2", "layers.conv2")
SMALL, FOUR = (2, 1), (1, 2, 1, 1)


def torchvision_net(blocks=SMALL):
    from torchvision.models import DenseNet

    return DenseNet(GROWTH, blocks, INIT, BN_SIZE, 0.0, CLASSES)


def monai_net(dims, in_channels, blocks=SMALL):
    from monai.networks.nets import DenseNet

    return DenseNet(dims, in_channels, CLASSES, INIT, GROWTH, blocks, BN_SIZE)


def timm_net(stem="", in_channels=3):
    from timm.models.densenet import DenseNet

    # timm's stem has twice the growth rate's channels, which is INIT here.
    return DenseNet(
        growth_rate=GROWTH,
        block_config=SMALL,
        num_classes=CLASSES,
        in_chans=in_channels,
        bn_size=BN_SIZE,
        stem_type=stem,
    )


def networks():
    """Every network by the name of its golden file; dialects are the part before the first `+`."""
    return {
        "torchvision": torchvision_net(),
        "monai+2d": monai_net(2, 4),
        "monai+3d": monai_net(3, 1),
        "timm": timm_net(in_channels=1),
        "kenshohara": dense_net(3, SMALL, 3, ("features.conv1", "features.norm1")),
        "kenshohara-2018": dense_net(3, SMALL, 3),
        "tutorial-2d": dense_net(2, SMALL, ops=LAYERS),
        "tutorial-rewritten": dense_net(
            2,
            FOUR,
            stem=("Conv1.conv0", "Conv1.norm0"),
            layer="Dense_Block_{b}.denselayer{l}",
            ops=LAYERS,
            transition="Transition_Layer_{b}",
            final="finale_bn",
        ),
        "tutorial-3d": dense_net(3, SMALL, 1, ("features.conv1", "features.norm1")),
        "gpleiss": dense_net(2, SMALL, final="features.norm_final"),
        "gpleiss+small": dense_net(
            2, SMALL, stem=("features.conv0", None), stem_kernel=3, final="features.norm_final"
        ),
        "tutorial-bottom": dense_net(
            2,
            FOUR,
            stem=("conv1", "bn1"),
            layer="dense{b}.layers.{l}",
            first_layer=0,
            ops=("bn1", "conv1", "bn2", "conv2"),
            transition="trans{b}",
            transition_ops=("bn", "conv"),
            final=None,
            classifier="fc",
        ),
    }


def old_spelling(name):
    """`norm1` inside a dense layer as `norm.1`, before PyTorch 0.4."""
    return re.sub(r"(denselayer\d+)\.(norm|conv)(\d)\.", r"\1.\2.\3.", name)


def new_spelling(name):
    return re.sub(r"(denselayer\d+)\.(norm|conv)\.(\d)\.", r"\1.\2\3.", name)
