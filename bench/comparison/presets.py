"""Growth rate, stem width and block sizes of the presets that are measured, as their names promise."""

PRESETS = {
    "densenet121": (32, 64, (6, 12, 24, 16)),
    "densenet161": (48, 96, (6, 12, 36, 24)),
    "densenet169": (32, 64, (6, 12, 32, 32)),
    "densenet201": (32, 64, (6, 12, 48, 32)),
    "densenet264": (32, 64, (6, 12, 64, 48)),
    "densenet-bc-100-12": (12, 24, (16, 16, 16)),
    "densenet-bc-250-24": (24, 48, (41, 41, 41)),
    "densenet-40-12": (12, 16, (12, 12, 12)),
}
"""growth_rate, num_init_features, block_config."""
