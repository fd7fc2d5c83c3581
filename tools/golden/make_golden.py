"""Writes tests/golden: what PyTorch computes, for the Rust tests to compare with.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make_golden.py [--out ../../tests/golden] [--only logits|training]

Weights, inputs and labels come from `generator.py`, whose twin in densenet-testkit makes the same bits, so only outputs
are stored. Everything is computed in float64 from the generated float32 values, and once more in float32 to record how
far float32 arithmetic strays (`float32_error`, the largest difference of each tensor). Where torchvision or MONAI has the network, it must agree with the generic one of
`network.py`. The layout of the files is described in `crates/densenet-testkit/src/golden.rs`.
"""

import argparse
import json
import os
import pathlib
import platform
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn import functional as F

import cases
import generator
import network

FORMAT = 1
STEPS = 10
SEEDS, FINALISTS = 24, 10
SGD = {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
# AdamW divides by the gradient's own size: with the usual eps of 1e-8 an element whose gradient is smaller than float32's
# rounding of it moves by a whole learning rate in a random direction. 1e-4 bounds that by lr · error / eps.
ADAMW = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-4, "weight_decay": 1e-2}


def rounded(error):
    """Three digits are enough to say how large an error is."""
    return float(f"{error:.2e}")


def logits_case(case, seed):
    """Runs one network in evaluation mode; returns its index entry and its tensors."""
    config, name = case["config"], case["name"]
    x = torch.from_numpy(generator.batch(case["input_shape"], seed, 0))
    module = network.build(config, seed, torch.float64).eval()
    taps = {}
    if case["taps"]:
        for stage, path in module.stages:
            hook = lambda _, __, out, stage=stage: taps.__setitem__(f"tap/{stage}", out.detach().clone())
            getattr(module.features, path).register_forward_hook(hook)
    with torch.no_grad():
        exact = {"logits": module(x.double()), **taps}
        expected = exact["logits"]
        scale = expected.abs().max().item()
        oracles = ["generic"]
        state = network.generated_state(module, seed)
        for oracle, twin in [("torchvision", network.torchvision_twin), ("monai", network.monai_twin)]:
            other = twin(config, seed, state, torch.float64)
            if other is not None:
                error = (other.eval()(x.double()) - expected).abs().max().item()
                assert error < 1e-10 * scale, f"{name}: {oracle} differs by {error}"
                oracles.append(oracle)
            del other
        single = {"logits": module.float()(x), **taps}
    errors = {k: rounded((single[k].double() - v).abs().max().item()) for k, v in exact.items()}
    std = expected.std().item()
    print(f"{name}: peak {scale:.3g}, std {std:.3g}, float32 error {errors['logits']:.2g}, {oracles}", flush=True)
    tensors = {f"{name}/logits_f32": single["logits"].numpy()}
    for key, value in exact.items():
        tensors[f"{name}/{key}"] = value.numpy() if key == "logits" else value.numpy().astype(np.float32)
    stages = [key.removeprefix("tap/") for key in exact if key != "logits"]
    entry = {**case, "seed": seed, "oracles": oracles, "float32_error": errors, "taps": stages}
    return {**entry, "file": "logits.safetensors"}, tensors


def batches(case, seed, step, dtype):
    """Input and labels of batch `step`."""
    shape = case["input_shape"]
    x = torch.from_numpy(generator.batch(shape, seed, step)).to(dtype)
    return x, torch.from_numpy(generator.labels(shape[0], case["config"]["num_classes"], seed, step))


def state_of(module, prefix):
    state = module.state_dict().items()
    return {f"{prefix}/{k}": v.detach().numpy().copy() for k, v in state if not k.endswith("num_batches_tracked")}


def one_step(case, seed, dtype):
    """Loss, gradients and running statistics of batch 0, and the margin to the nearest kink."""
    module = network.build(case["config"], seed, dtype).train()
    meter = network.KinkMeter(module)
    x, labels = batches(case, seed, 0, dtype)
    x.requires_grad_(True)
    logits = module(x)
    loss = F.cross_entropy(logits, labels, label_smoothing=case["label_smoothing"])
    loss.backward()
    tensors = {"logits": logits.detach().numpy(), "loss": loss.detach().reshape(1).numpy(), "grad_input": x.grad.numpy()}
    tensors.update({f"grad/{k}": p.grad.numpy() for k, p in module.named_parameters()})
    running = state_of(module, "running")
    tensors.update({k: v for k, v in running.items() if k.rsplit(".", 1)[1].startswith("running_")})
    return tensors, meter.margin


def run(case, seed, dtype, name):
    """Ten steps of the optimiser called `name`, batch t in step t."""
    module = network.build(case["config"], seed, dtype).train()
    meter = network.KinkMeter(module)
    make, options = {"sgd": (torch.optim.SGD, SGD), "adamw": (torch.optim.AdamW, ADAMW)}[name]
    optimizer = make(module.parameters(), **options)
    losses = []
    for step in range(STEPS):
        x, labels = batches(case, seed, step, dtype)
        optimizer.zero_grad()
        loss = F.cross_entropy(module(x), labels, label_smoothing=case["label_smoothing"])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tensors = state_of(module, name)
    tensors[f"{name}_losses"] = np.array(losses)
    return tensors, meter.margin


def everything(case, seed, dtype):
    """All tensors of a training case; margins of the single step and of the runs."""
    tensors, margin = one_step(case, seed, dtype)
    run_margin = float("inf")
    for name in ("sgd", "adamw"):
        more, one = run(case, seed, dtype, name)
        tensors.update(more)
        run_margin = min(run_margin, one)
    return tensors, margin, run_margin


def training_case(case):
    """Trains one small network; returns its index entry and its tensors.

    Where a pre-activation lies within float32's error of zero, float32 and float64 may see different derivatives, and
    no tolerance could be derived. So the seed is the one of the first few whose passes stay furthest from every kink.
    """
    margins = [(one_step(case, seed, torch.float64)[1], seed) for seed in range(1, SEEDS + 1)]
    scored = []
    for _, seed in sorted(margins, reverse=True)[:FINALISTS]:
        exact, margin, run_margin = everything(case, seed, torch.float64)
        scored.append((min(margin / 4, run_margin), seed, margin, run_margin, exact))
    _, seed, margin, run_margin, exact = max(scored, key=lambda one: one[:2])
    single, _, _ = everything(case, seed, torch.float32)
    errors = {key: rounded(np.abs(single[key] - exact[key]).max()) for key in exact}

    def worst(prefix):
        return max(errors[key] / max(float(np.abs(exact[key]).max()), 1e-30) for key in exact if key.startswith(prefix))

    count = sum(v.size for k, v in exact.items() if k.startswith("grad/"))
    shown = ", ".join(f"{part} {worst(part):.1e}" for part in ("logits", "loss", "grad", "running", "sgd", "adamw"))
    print(f"{case['name']}: seed {seed}, {count} parameters, margins {margin:.1e} {run_margin:.1e}; {shown}", flush=True)
    print("   losses", exact["sgd_losses"].round(3), exact["adamw_losses"].round(3), flush=True)
    entry = {
        **case,
        "seed": seed,
        "steps": STEPS,
        "kink_margin": margin,
        "run_kink_margin": run_margin,
        "float32_error": errors,
        "sgd": SGD,
        "adamw": ADAMW,
        "file": f"training-{case['name']}.safetensors",
    }
    return entry, exact


def versions():
    import monai
    import safetensors
    import torchvision

    modules = {m.__name__: m.__version__.split("+")[0] for m in (torch, torchvision, monai, np, safetensors)}
    return {"python": platform.python_version(), **modules}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here / "../../tests/golden")
    parser.add_argument("--only", choices=["logits", "training"], help="keep the other part as it is")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    index = {
        "format": FORMAT,
        "about": "Written by tools/golden/make_golden.py; crates/densenet-testkit/src/golden.rs describes the layout.",
        "versions": versions(),
        "generator": generator.samples(),
        "logits": [],
        "training": [],
    }
    if args.only:
        kept = json.loads((out / "index.json").read_text())
        index.update({part: kept[part] for part in ("logits", "training") if part != args.only})
    if args.only != "logits":
        torch.set_num_threads(1)  # tiny networks: more threads only wait for each other
        for old in out.glob("training-*.safetensors"):
            old.unlink()
        for case in cases.training_cases():
            entry, tensors = training_case(case)
            # The state after a run is as large as all gradients, twice; float32 holds it as closely as any test needs.
            for key in tensors:
                if key.startswith(("sgd/", "adamw/")):
                    tensors[key] = tensors[key].astype(np.float32)
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, out / entry["file"])
            index["training"].append(entry)
    if args.only != "training":
        torch.set_num_threads(os.cpu_count() or 1)
        tensors = {}
        for number, case in enumerate(cases.logits_cases(), 1):
            entry, more = logits_case(case, number)
            index["logits"].append(entry)
            tensors.update(more)
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, out / "logits.safetensors")
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    total = sum(f.stat().st_size for f in out.iterdir())
    print(f"{out}: {total / 2**20:.2f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
