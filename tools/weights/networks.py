"""Tiny DenseNets of every dialect, and the formula their weights follow.

torchvision, MONAI and timm are the installed classes. The other programs' networks are rebuilt here by structure: the
same module names and tensor shapes in the same order, and the same forward pass where it is not torchvision's.
"""

import re
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

# The values that densenet-testkit generates bit by bit alike.
sys.path.append(str(Path(__file__).resolve().parent.parent / "golden"))
import generator  # noqa: E402, F401

TINY = dict(growth_rate=2, num_init_features=4, bn_size=2, num_classes=3)
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


def randomise(network):
    """Convolutions drawn so that signals keep their size, whatever the class starts from, and every norm's parameters and
    statistics at random: 0 and 1 would hide that they were lost."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(STEPS)
            elif tensor.dim() > 2:
                nn.init.kaiming_normal_(tensor)
            elif tensor.dim() == 1:
                scale = name.endswith(("running_var", "weight"))
                tensor.uniform_(0.5, 1.5) if scale else tensor.uniform_(-0.5, 0.5)
    return network


class Rebuilt(nn.Module):
    """Modules at dotted paths in the order they were placed in, and the stages that a forward pass goes through."""

    def __init__(self):
        super().__init__()
        self.stages = []

    def place(self, path, module):
        *parents, last = path.split(".")
        node = self
        for parent in parents:
            if parent not in node._modules:
                node._modules[parent] = nn.Module()
            node = node._modules[parent]
        node._modules[last] = module
        return module

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


def per_axis(dims, size):
    """A size for every spatial axis: (depth, height, width) as it is, or one number for all."""
    return tuple(size)[-dims:] if isinstance(size, (tuple, list)) else (size,) * dims


def conv(dims, c_in, c_out, kernel, stride=1):
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    kernel = per_axis(dims, kernel)
    padding = tuple(k // 2 for k in kernel)
    return kind(c_in, c_out, kernel, per_axis(dims, stride), padding, bias=False)


def norm(dims, channels):
    return (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(channels)


def dense_net(
    *,
    dims,
    blocks,
    in_channels=3,
    stem=("features.conv0", "features.norm0"),
    stem_kernel=7,
    stem_stride=2,
    stem_pool=True,
    layer="features.denseblock{b}.denselayer{l}",
    first_layer=1,
    ops=("norm1", "conv1", "norm2", "conv2"),
    transition="features.transition{b}",
    transition_ops=("norm", "conv"),
    compression=0.5,
    final="features.norm5",
    classifier="classifier",
    newest_first=False,
    growth_rate,
    num_init_features,
    bn_size,
    num_classes,
):
    """A DenseNet by its modules' names: those of a stage as a tuple, those of every block or layer as a pattern."""
    net = Rebuilt()
    max_pool, avg_pool = (F.max_pool2d, F.avg_pool2d) if dims == 2 else (F.max_pool3d, F.avg_pool3d)
    channels = num_init_features
    net.stages.append(net.place(stem[0], conv(dims, in_channels, channels, stem_kernel, stem_stride)))
    if stem[1]:
        net.stages += [net.place(stem[1], norm(dims, channels)), F.relu]
    if stem_pool:
        net.stages.append(lambda x: max_pool(x, 3, 2, 1))
    for b, count in enumerate(blocks, 1):
        for l in range(count):
            path = layer.format(b=b, l=l + first_layer)
            wide = bn_size * growth_rate
            modules = [
                norm(dims, channels),
                conv(dims, channels, wide, 1),
                norm(dims, wide),
                conv(dims, wide, growth_rate, 3),
            ]
            for op, module in zip(ops, modules):
                net.place(f"{path}.{op}", module)
            net.stages.append(dense_layer(*modules, newest_first))
            channels += growth_rate
        if b < len(blocks):
            path = transition.format(b=b)
            kept = int(channels * compression)
            net.stages += [
                net.place(f"{path}.{transition_ops[0]}", norm(dims, channels)),
                F.relu,
                net.place(f"{path}.{transition_ops[1]}", conv(dims, channels, kept, 1)),
                lambda x: avg_pool(x, 2),
            ]
            channels = kept
    if final:
        net.stages += [net.place(final, norm(dims, channels)), F.relu]
    net.stages.append(lambda x: x.flatten(2).mean(2))
    net.stages.append(net.place(classifier, nn.Linear(channels, num_classes)))
    return net


def dense_layer(norm1, conv1, norm2, conv2, newest_first):
    def forward(old):
        new = conv2(F.relu(norm2(conv1(F.relu(norm1(old))))))
        return torch.cat([new, old] if newest_first else [old, new], 1)

    return forward


LAYERS = ("layers.norm1", "layers.conv1", "layers.norm2", "layers.conv2")
SMALL, FOUR = (2, 1), (1, 2, 1, 1)
FLAT = (1, 2, 2)

# What tells the other programs' classes from torchvision's, as arguments of dense_net.
REBUILT = {
    "kenshohara": dict(dims=3, blocks=SMALL, stem=("features.conv1", "features.norm1"), stem_stride=FLAT),
    "kenshohara-2018": dict(dims=3, blocks=SMALL, stem_stride=FLAT),
    "tutorial-2d": dict(dims=2, blocks=SMALL, ops=LAYERS),
    "tutorial-rewritten": dict(
        dims=2,
        blocks=FOUR,
        stem=("Conv1.conv0", "Conv1.norm0"),
        layer="Dense_Block_{b}.denselayer{l}",
        ops=LAYERS,
        transition="Transition_Layer_{b}",
        final="finale_bn",
    ),
    "tutorial-3d": dict(dims=3, blocks=SMALL, in_channels=1, stem=("features.conv1", "features.norm1")),
    "gpleiss": dict(dims=2, blocks=SMALL, final="features.norm_final"),
    "tutorial-bottom": dict(
        dims=2,
        blocks=FOUR,
        stem=("conv1", "bn1"),
        layer="dense{b}.layers.{l}",
        first_layer=0,
        ops=("bn1", "conv1", "bn2", "conv2"),
        transition="trans{b}",
        transition_ops=("bn", "conv"),
        final=None,
        classifier="fc",
        newest_first=True,
    ),
}
# gpleiss's `small_inputs`.
SMALL_INPUTS = dict(stem=("features.conv0", None), stem_kernel=3, stem_stride=1, stem_pool=False)


def rebuilt(dialect, **arguments):
    """The network of `dialect`, tiny, with other arguments of dense_net where given."""
    return dense_net(**{**TINY, **REBUILT[dialect], **arguments})


def torchvision_net(blocks=SMALL, widths=TINY):
    from torchvision.models import DenseNet

    return DenseNet(block_config=blocks, **widths)


def monai_net(dims, in_channels, blocks=SMALL, widths=TINY):
    from monai.networks.nets import DenseNet

    return DenseNet(
        spatial_dims=dims,
        in_channels=in_channels,
        out_channels=widths["num_classes"],
        init_features=widths["num_init_features"],
        growth_rate=widths["growth_rate"],
        block_config=blocks,
        bn_size=widths["bn_size"],
    )


def timm_net(stem="", in_channels=3, blocks=SMALL, widths=TINY):
    from timm.models.densenet import DenseNet

    # timm's stem has twice the growth rate's channels.
    widths = {**widths}
    assert widths.pop("num_init_features") == 2 * widths["growth_rate"]
    return DenseNet(block_config=blocks, in_chans=in_channels, stem_type=stem, **widths)


def networks(widths=TINY, blocks=SMALL, four=FOUR):
    """Every network by the name of its golden file; dialects are the part before the first `+`.

    `four` stands for `blocks` where the program's class always has four.
    """
    other = lambda dialect, **arguments: rebuilt(
        dialect, blocks=four if len(REBUILT[dialect]["blocks"]) == 4 else blocks, **widths, **arguments
    )
    return {
        "torchvision": torchvision_net(blocks, widths),
        "monai+2d": monai_net(2, 4, blocks, widths),
        "monai+3d": monai_net(3, 1, blocks, widths),
        "timm": timm_net("", 1, blocks, widths),
        "kenshohara": other("kenshohara"),
        "kenshohara-2018": other("kenshohara-2018"),
        "tutorial-2d": other("tutorial-2d"),
        "tutorial-rewritten": other("tutorial-rewritten"),
        "tutorial-3d": other("tutorial-3d"),
        "gpleiss": other("gpleiss"),
        "gpleiss+small": other("gpleiss", **SMALL_INPUTS),
        "tutorial-bottom": other("tutorial-bottom"),
    }


def old_spelling(name):
    """`norm1` inside a dense layer as `norm.1`, before PyTorch 0.4."""
    return re.sub(r"(denselayer\d+)\.(norm|conv)(\d)\.", r"\1.\2.\3.", name)


def new_spelling(name):
    return re.sub(r"(denselayer\d+)\.(norm|conv)\.(\d)\.", r"\1.\2\3.", name)


def save(network, path, dialect):
    """Saves the network's weights as the programs of its dialect did."""
    state, zipped = network.state_dict(), True
    if dialect in ("torchvision-legacy", "kenshohara-2018"):
        counters = [name for name in state if name.endswith("num_batches_tracked")]
        state = OrderedDict((old_spelling(n), t) for n, t in state.items() if n not in counters)
        zipped = False
    if dialect == "kenshohara-2018":
        state = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        state = {"epoch": 3, "arch": "densenet", "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)


def load(path, network):
    """Loads a weights file of the network's dialect, strictly; old files have no counters of batches."""
    path = Path(path)
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    state = state.get("state_dict", state)
    state = {new_spelling(name).removeprefix("module."): tensor for name, tensor in state.items()}
    # PyTorch sets missing counters itself where the dict has no version, as before they were invented.
    network.load_state_dict(state, strict=True)
    return network.eval()
