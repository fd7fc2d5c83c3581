"""The networks of the golden files."""

BLOCKS = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32), 264: (6, 12, 64, 48)}


def stem(name, dims):
    """The ImageNet or the small stem."""
    kernel, stride = (7, 2) if name == "imagenet" else (3, 1)
    big = name == "imagenet"
    return {
        "kernel": [kernel if dims == 3 else 1, kernel, kernel],
        "stride": [stride if dims == 3 else 1, stride, stride],
        "norm": big,
        "pool": big,
    }


def config(dims, **fields):
    """A configuration with densenet121's values where `fields` says nothing."""
    base = {
        "growth_rate": 32,
        "block_config": [6, 12, 24, 16],
        "num_init_features": 64,
        "bn_size": 4,
        "compression": 0.5,
        "drop_rate": 0.0,
        "num_classes": 1000,
        "in_channels": 3 if dims == 2 else 1,
        "spatial_dims": dims,
        "stem": "imagenet",
        "final_norm": True,
        "concat_order": "old_new",
        "bn_eps": 1e-5,
        "bn_momentum": 0.1,
    }
    assert set(fields) <= set(base), fields
    base.update(fields)
    if isinstance(base["stem"], str):
        base["stem"] = stem(base["stem"], dims)
    return base


def imagenet(depth, dims):
    wide = depth == 161
    return config(
        dims,
        growth_rate=48 if wide else 32,
        num_init_features=96 if wide else 64,
        block_config=list(BLOCKS[depth]),
    )


def cifar(bc, depth, growth_rate, dims):
    return config(
        dims,
        growth_rate=growth_rate,
        num_init_features=2 * growth_rate if bc else 16,
        block_config=[(depth - 4) // (6 if bc else 3)] * 3,
        bn_size=4 if bc else 0,
        compression=0.5 if bc else 1.0,
        num_classes=10,
        stem="small",
    )


def presets():
    """(preset, dims, config, inputs without batch and channels)"""
    for depth in BLOCKS:
        yield f"densenet{depth}", 2, imagenet(depth, 2), [(1, (64, 64)), (2, (61, 75))]
        yield f"densenet{depth}", 3, imagenet(depth, 3), [(1, (32, 32, 32)), (2, (33, 29, 40))]
    for bc, depth, growth_rate in [
        (False, 40, 12),
        (False, 100, 12),
        (False, 100, 24),
        (True, 100, 12),
        (True, 250, 24),
        (True, 190, 40),
    ]:
        name = f"densenet-{'bc-' if bc else ''}{depth}-{growth_rate}"
        small = growth_rate == 12
        two = [(1, (32, 32))] + ([(2, (27, 33))] if small else [])
        three = [(1, (8, 8, 8))] + ([(2, (5, 9, 7))] if small else [])
        yield name, 2, cifar(bc, depth, growth_rate, 2), two
        yield name, 3, cifar(bc, depth, growth_rate, 3), three
    yield "densenet121", 2, imagenet(121, 2), [(1, (224, 224))]


def logits_cases():
    """Name, preset, configuration, input shape and whether stage outputs are stored."""
    for preset, dims, cfg, inputs in presets():
        for batch, spatial in inputs:
            size = "x".join(map(str, spatial))
            yield {
                "name": f"{preset}-{dims}d-{size}-b{batch}",
                "preset": preset,
                "config": cfg,
                "input_shape": [batch, cfg["in_channels"], *spatial],
                "taps": False,
            }
    # Stage outputs: densenet121 at a size whose maps are small, and two networks that no preset is.
    yield {
        "name": "densenet121-2d-32x32-taps",
        "preset": "densenet121",
        "config": imagenet(121, 2),
        "input_shape": [1, 3, 32, 32],
        "taps": True,
    }
    for cfg, size in [(small_new_old(), (19, 23)), (kenshohara(), (9, 21, 17))]:
        yield {
            "name": f"small-{cfg['spatial_dims']}d-{'x'.join(map(str, size))}-taps",
            "preset": None,
            "config": cfg,
            "input_shape": [2, cfg["in_channels"], *size],
            "taps": True,
        }


def small_new_old():
    """The small variant that joins [new, old] and has no final norm."""
    return config(
        2,
        growth_rate=5,
        num_init_features=10,
        block_config=[2, 3, 2],
        num_classes=4,
        stem="small",
        final_norm=False,
        concat_order="new_old",
    )


def kenshohara():
    """A video stem: stride 1 along the depth, then the max-pool."""
    return config(
        3,
        growth_rate=12,
        num_init_features=12,
        block_config=[2, 2],
        bn_size=2,
        num_classes=6,
        in_channels=2,
        stem={"kernel": [5, 7, 7], "stride": [1, 2, 2], "norm": True, "pool": True},
    )


def training_cases():
    """Name, configuration, input shape, label smoothing."""

    def case(name, cfg, batch, spatial, label_smoothing=0.0):
        assert len(spatial) == cfg["spatial_dims"]
        return {
            "name": name,
            "config": cfg,
            "input_shape": [batch, cfg["in_channels"], *spatial],
            "label_smoothing": label_smoothing,
        }

    def small(dims, **fields):
        fields = {"growth_rate": 5, "num_init_features": 7, "block_config": [2, 2], "bn_size": 0, **fields}
        return config(dims, **{"num_classes": 5, "compression": 1.0, "stem": "small", **fields})

    bottleneck = {"bn_size": 4, "compression": 0.5}
    return [
        case("2d-bottleneck-imagenet", small(2, **bottleneck, stem="imagenet", block_config=[2, 3]), 4, (33, 29)),
        case("2d-plain-small", small(2), 3, (9, 11), 0.1),
        case("2d-bottleneck-small", small(2, **bottleneck, growth_rate=12, num_init_features=24), 3, (6, 7), 0.1),
        case("2d-bottleneck-new-old", {**small_new_old(), "num_init_features": 6}, 3, (9, 13)),
        case("2d-plain-new-old", small(2, growth_rate=12, concat_order="new_old", stem="imagenet"), 4, (25, 29), 0.2),
        case("2d-no-final-norm", small(2, **bottleneck, growth_rate=12, final_norm=False, in_channels=1), 3, (7, 10)),
        case(
            "2d-odd-stem",
            small(
                2,
                bn_size=1,
                block_config=[3],
                in_channels=2,
                num_classes=3,
                bn_eps=1e-3,
                bn_momentum=0.25,
                stem={"kernel": [1, 5, 3], "stride": [1, 2, 1], "norm": True, "pool": False},
            ),
            3,
            (11, 8),
        ),
        case("2d-growth-16", small(2, bn_size=2, compression=0.5, growth_rate=16, num_init_features=32), 3, (7, 6)),
        case("2d-three-blocks", small(2, bn_size=2, compression=0.35, block_config=[1, 2, 1]), 3, (13, 15), 0.1),
        case("3d-bottleneck-imagenet", small(3, **bottleneck, stem="imagenet", num_init_features=6), 2, (17, 19, 18)),
        case("3d-plain-small", small(3), 3, (5, 6, 7), 0.1),
        case("3d-bottleneck-small", small(3, **bottleneck, growth_rate=8, num_init_features=16), 3, (4, 5, 6)),
        case("3d-bottleneck-new-old", small(3, **bottleneck, concat_order="new_old", final_norm=False), 3, (5, 4, 7), 0.1),
        case("3d-plain-new-old", small(3, growth_rate=12, block_config=[2], concat_order="new_old"), 4, (3, 4, 5)),
        case("3d-video-stem", {**kenshohara(), "growth_rate": 6, "num_init_features": 8}, 3, (5, 17, 15)),
    ]
