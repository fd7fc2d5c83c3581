"""A DenseNet in torch for every configuration that densenet-spec describes, under torchvision's parameter paths."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

import generator


def _ops(dims):
    if dims == 2:
        return nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d
    return nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d


class DenseLayer(nn.Module):
    """norm1-relu1-conv1(1)-norm2-relu2-conv2(3), or norm1-relu1-conv1(3) without bottleneck; joined to its input."""

    def __init__(self, config, c_in):
        super().__init__()
        conv, _, _, _ = _ops(config["spatial_dims"])
        growth_rate, width = config["growth_rate"], config["bn_size"] * config["growth_rate"]
        self.new_first = config["concat_order"] == "new_old"
        self.norm1 = norm(config, c_in)
        self.relu1 = nn.ReLU()
        self.bottleneck = width > 0
        if self.bottleneck:
            self.conv1 = conv(c_in, width, 1, bias=False)
            self.norm2 = norm(config, width)
            self.relu2 = nn.ReLU()
            self.conv2 = conv(width, growth_rate, 3, padding=1, bias=False)
        else:
            self.conv1 = conv(c_in, growth_rate, 3, padding=1, bias=False)

    def forward(self, old):
        new = self.conv1(self.relu1(self.norm1(old)))
        if self.bottleneck:
            new = self.conv2(self.relu2(self.norm2(new)))
        return torch.cat([new, old] if self.new_first else [old, new], 1)


def norm(config, channels):
    return _ops(config["spatial_dims"])[1](channels, eps=config["bn_eps"], momentum=config["bn_momentum"])


class DenseNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        dims = config["spatial_dims"]
        conv, _, max_pool, avg_pool = _ops(dims)
        stem, channels = config["stem"], config["num_init_features"]
        kernel, stride = stem["kernel"][3 - dims :], stem["stride"][3 - dims :]
        modules = OrderedDict()
        modules["conv0"] = conv(
            config["in_channels"], channels, kernel, stride, [k // 2 for k in kernel], bias=False
        )
        if stem["norm"]:
            modules["norm0"] = norm(config, channels)
            modules["relu0"] = nn.ReLU()
        if stem["pool"]:
            modules["pool0"] = max_pool(3, 2, 1)
        self.stages = [("stem", next(reversed(modules)))]
        for b, layers in enumerate(config["block_config"], 1):
            block = OrderedDict()
            for layer in range(1, layers + 1):
                block[f"denselayer{layer}"] = DenseLayer(config, channels)
                channels += config["growth_rate"]
            modules[f"denseblock{b}"] = nn.Sequential(block)
            self.stages.append((f"denseblock{b}", f"denseblock{b}"))
            if b < len(config["block_config"]):
                c_out = int(config["compression"] * channels)
                transition = OrderedDict(
                    norm=norm(config, channels),
                    relu=nn.ReLU(),
                    conv=conv(channels, c_out, 1, bias=False),
                    pool=avg_pool(2, 2),
                )
                modules[f"transition{b}"] = nn.Sequential(transition)
                self.stages.append((f"transition{b}", f"transition{b}"))
                channels = c_out
        if config["final_norm"]:
            modules["norm5"] = norm(config, channels)
            self.stages.append(("norm5", "norm5"))
            modules["relu5"] = nn.ReLU()
        self.features = nn.Sequential(modules)
        self.classifier = nn.Linear(channels, config["num_classes"])

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x.flatten(2).mean(2))


def generated_state(module, seed):
    """The generated state dict for `module`, whose names are torchvision's."""
    return {
        name: torch.from_numpy(generator.parameter(name, tuple(value.shape), seed))
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def load(module, state, rename=lambda name: name):
    """Loads torchvision-named `state` into `module`; nothing may be missing but the batch counters."""
    own = {}
    for name in module.state_dict():
        if not name.endswith("num_batches_tracked"):
            own[name] = state[rename(name)]
    assert len(own) == len(state), "surplus tensors"
    result = module.load_state_dict(own, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in result.missing_keys), result
    assert not result.unexpected_keys, result
    return module


def build(config, seed, dtype):
    """The generic network with generated weights."""
    module = DenseNet(config)
    return load(module, generated_state(module, seed)).to(dtype)


def torchvision_twin(config, seed, state, dtype):
    """torchvision's network of this configuration, or None where it has none."""
    if config["spatial_dims"] != 2 or config["in_channels"] != 3 or not _standard(config):
        return None
    import torchvision

    module = torchvision.models.DenseNet(
        growth_rate=config["growth_rate"],
        block_config=config["block_config"],
        num_init_features=config["num_init_features"],
        bn_size=config["bn_size"],
        drop_rate=config["drop_rate"],
        num_classes=config["num_classes"],
    )
    return load(module, state).to(dtype)


def monai_twin(config, seed, state, dtype):
    """MONAI's network of this configuration, or None where it has none."""
    if not _standard(config):
        return None
    from monai.networks.nets import DenseNet as Monai

    module = Monai(
        spatial_dims=config["spatial_dims"],
        in_channels=config["in_channels"],
        out_channels=config["num_classes"],
        init_features=config["num_init_features"],
        growth_rate=config["growth_rate"],
        block_config=config["block_config"],
        bn_size=config["bn_size"],
        dropout_prob=config["drop_rate"],
    )

    def rename(name):
        return name.replace(".layers.", ".").replace("class_layers.out", "classifier")

    return load(module, state, rename).to(dtype)


def _standard(config):
    """Whether the network differs from torchvision's only in numbers that it takes as arguments."""
    dims = config["spatial_dims"]
    imagenet = {
        "kernel": [7] * 3 if dims == 3 else [1, 7, 7],
        "stride": [2] * 3 if dims == 3 else [1, 2, 2],
        "norm": True,
        "pool": True,
    }
    return (
        config["stem"] == imagenet
        and config["bn_size"] > 0
        and config["compression"] == 0.5
        and config["final_norm"]
        and config["concat_order"] == "old_new"
        and config["bn_eps"] == 1e-5
        and config["bn_momentum"] == 0.1
    )


class KinkMeter:
    """Measures how far every forward pass of a network stays from the points where its derivative jumps.

    For a ReLU that is |x|, for a maximum the distance to its runner-up. Where the maximum of a pooling window is the
    zero of a ReLU, a tie changes no gradient and is not counted.
    """

    def __init__(self, module):
        self.margin = float("inf")
        rectified = False
        for name, child in module.named_modules():
            if isinstance(child, nn.ReLU):
                child.register_forward_pre_hook(lambda _, args: self._see(args[0].abs()))
                rectified = rectified or name == "features.relu0"
            elif isinstance(child, (nn.MaxPool2d, nn.MaxPool3d)):
                child.register_forward_pre_hook(lambda _, args, r=rectified: self._pool(args[0], r))

    def _see(self, distances):
        if distances.numel():
            self.margin = min(self.margin, distances.min().item())

    def _pool(self, x, rectified):
        dims = x.dim() - 2
        x = F.pad(x.detach(), [1] * (2 * dims), value=float("-inf"))
        for axis in range(2, 2 + dims):
            x = x.unfold(axis, 3, 2)
        top = x.flatten(2 + dims).topk(2).values
        gap = top[..., 0] - top[..., 1]
        self._see(gap[top[..., 0] > 0] if rectified else gap)
