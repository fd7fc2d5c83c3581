"""What is measured, and what we set out to reach: data alone.

A target is the largest allowed ratio of our median to the fastest rival's of the same precision; 1 means ahead of every
rival.
"""

from dataclasses import dataclass, field

LARGE_NET_TARGETS = {"f32": 1.0, "bf16": 1.0}


@dataclass(frozen=True)
class Case:
    preset: str
    size: int
    batch: int
    dims: int = 2
    targets: dict = field(default_factory=lambda: LARGE_NET_TARGETS)
    """By precision."""
    memory_target: float | None = None
    """Peak memory, ours ÷ PyTorch's."""
    only_pytorch: bool = False
    heavy: bool = False
    """Takes seconds: few runs, and a reference in f32."""
    blocks: tuple | None = None
    """Replaces the preset's block_config."""

    @property
    def name(self):
        net = self.preset.removeprefix("densenet").removeprefix("-")
        if self.blocks:
            net += "(" + ",".join(map(str, self.blocks)) + ")"
        power = "²" if self.dims == 2 else "³"
        return f"{self.dims}-D {net} {self.size}{power} b{self.batch}"

    @property
    def shape(self):
        channels = 3 if self.dims == 2 else 1
        return [self.batch, channels, *[self.size] * self.dims]


FAST = {"f32": 0.70, "bf16": 0.75}
VOLUME = {"f32": 0.50, "bf16": 0.65}

INFERENCE = [
    Case("densenet121", 224, 1, targets=FAST),
    Case("densenet121", 224, 8, targets={"f32": 0.70, "bf16": 1.0}),
    Case("densenet161", 224, 1),
    Case("densenet169", 224, 1),
    Case("densenet201", 224, 1),
    Case("densenet264", 224, 1),
    Case("densenet121", 64, 1, dims=3, targets=VOLUME),
    Case("densenet121", 96, 1, dims=3, targets=VOLUME),
    Case("densenet121", 224, 1, dims=3, targets={"f32": 0.40}, memory_target=0.5, only_pytorch=True, heavy=True),
    Case("densenet-bc-100-12", 32, 1),
    Case("densenet-bc-100-12", 32, 64),
    Case("densenet-40-12", 32, 1),
    Case("densenet-40-12", 32, 64),
    Case("densenet-bc-250-24", 32, 1),
    Case("densenet-bc-250-24", 32, 64, heavy=True),
]

# One prediction in a process of its own: peak memory against ONNX Runtime's, and the time to the first answer.
ONE_SHOT = [Case("densenet121", 224, 1), Case("densenet121", 96, 1, dims=3)]
ONE_SHOT_MEMORY_TARGET = 0.5
FIRST_ANSWER_TARGET_MS = 150.0

# Two threads against one.
SCALING = [
    Case("densenet121", 224, 1),
    Case("densenet121", 224, 8),
    Case("densenet121", 64, 1, dims=3),
]
SCALING_TARGET = 1.8

# Training: the ratio of step times, and of peak memory above the loaded model, to PyTorch's best.
TRAINING = [
    Case("densenet121", 224, 8, targets={"f32": 0.50}, memory_target=0.33),
    Case("densenet121", 224, 32, targets={}, heavy=True),
    Case("densenet-bc-100-12", 32, 64, targets={"f32": 0.45}, memory_target=0.33),
    Case("densenet121", 64, 2, dims=3, targets={"f32": 0.45}, memory_target=0.33),
    Case("densenet121", 96, 2, dims=3, targets={"f32": 0.45}, memory_target=0.33, heavy=True),
]
# Ours recomputing bottlenecks, against PyTorch's ordinary step.
MEMORY_EFFICIENT_TARGETS = {"time": 0.65, "memory": 0.20}

# Memory by depth.
DEPTH = [Case("densenet121", 224, 2, blocks=(6, 12, n, 16)) for n in (12, 24, 48, 96)]
