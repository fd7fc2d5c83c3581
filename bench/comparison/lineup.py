"""Who takes part: engines, the precision they are compared in, how a worker of theirs is started."""

import os
from dataclasses import dataclass, field

from .presets import PRESETS
from .process import HOME, Worker, python

AVX2_PYTORCH = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


@dataclass(frozen=True)
class Engine:
    name: str
    precision: str
    module: str | None = None
    """The worker in Python; None for an engine of the Rust program."""
    options: dict = field(default_factory=dict)
    avx2: dict = field(default_factory=dict)
    """Environment that keeps it from wider instructions."""


def pytorch(name, precision="f32", channels_last=False, compile=False):
    options = {"channels_last": channels_last, "compile": compile}
    return Engine(name, precision, "workers.pytorch", options, AVX2_PYTORCH)


PYTORCH = [pytorch("PyTorch"), pytorch("PyTorch channels-last", channels_last=True)]
COMPILED = [pytorch("torch.compile", channels_last=True, compile=True)]
OPENVINO_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "OV_CPU_MAX_ISA": "AVX2"}
OTHERS = [
    Engine("ONNX Runtime", "f32", "workers.onnx_runtime"),
    Engine("OpenVINO", "f32", "workers.open_vino", avx2=OPENVINO_AVX2),
    Engine("tract", "f32"),
    Engine("rten", "f32"),
    Engine("candle", "f32"),
    Engine("burn", "f32"),
]
BF16 = [
    pytorch("PyTorch bf16", "bf16", channels_last=True),
    Engine("OpenVINO bf16", "bf16", "workers.open_vino"),
]


def engines(case, settings):
    """The rivals of a case."""
    found = list(PYTORCH)
    if settings.compile:
        found += COMPILED
    if not case.only_pytorch:
        found += [engine for engine in OTHERS if engine.module or settings.rivals]
        # Processors without AVX-512 have no bf16 dot products to compare.
        if not settings.avx2:
            found += BF16
    return [e for e in found if not any(word and word in e.name.lower() for word in settings.skip)]


def start(engine, case, folder, settings):
    """A worker of this engine that is about to answer the case's input."""
    slug = engine.name.replace(" ", "-")
    task = {
        "precision": engine.precision,
        "preset": case.preset,
        "dims": case.dims,
        "blocks": case.blocks,
        "threads": settings.threads,
        "weights": str(folder / "weights.safetensors"),
        "onnx": str(folder / "model.onnx"),
        "input": str(folder / "x.npy"),
        "output": str(settings.scratch / f"{slug}.npy"),
        "simd_bits": 256 if settings.avx2 else None,
        **engine.options,
    }
    environment = {"OMP_NUM_THREADS": str(settings.threads), "RAYON_NUM_THREADS": str(settings.threads)}
    if settings.avx2:
        # `isa.limit` put copies of the engines without a switch there.
        environment |= {"PYTHONPATH": f"{settings.limited}{os.pathsep}{HOME}", **engine.avx2}
    if engine.module:
        command = python(engine.module, task)
    else:
        environment["RTEN_NUM_THREADS"] = str(settings.threads)
        command = [str(settings.rivals), engine.name, *(task[k] for k in ("onnx", "weights", "input", "output"))]
        command += [str(settings.threads), ",".join(map(str, case_layout(case)))]
    return Worker(command, environment, settings.scratch / f"{slug}.log"), task["output"]


def case_layout(case):
    """What an engine that builds the network itself has to know: dims, growth_rate, num_init_features, block_config …"""
    growth, init, usual = PRESETS[case.preset]
    blocks = case.blocks or usual
    return [case.dims, growth, init, 0 if case.preset == "densenet-40-12" else 4, *blocks]
