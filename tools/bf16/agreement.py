"""How often bf16 names the same class as f32, ours and OpenVINO's, on the same network and inputs.

    pip install -r tools/bf16/requirements.txt
    cargo build --release
    python tools/bf16/agreement.py target/release/densenet

The network has random norms, running statistics estimated from such inputs, and a classifier whose logits have mean 0
and deviation 1 for every class over them: fresh networks name the same class whatever they are shown, which would make
agreement worthless. The inputs are random images: sums of waves and noise of random contrast over a random colour.

Each engine is held against its own f32. Agreement counts inputs whose f32 margin, the difference of the two largest
logits, exceeds the stated error; it is shown for all inputs too. The exit status is 1 if ours agrees on less than 99.5 %
of what counts, or on less than OpenVINO does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import openvino
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from comparison import prepare  # noqa: E402
from comparison.workers.open_vino import compiled  # noqa: E402

AGREEMENT = 0.995


def images(count, shape, random):
    """Waves and noise over a colour, each image with its own frequencies and contrast."""
    channels, *sizes = shape
    axes = np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in sizes), indexing="ij")
    found = np.empty((count, channels, *sizes), np.float32)
    for image in found:
        image[:] = random.normal(0, 0.7, (channels,) + (1,) * len(sizes))
        for _ in range(4):
            turns = random.normal(0, 12, len(sizes))
            wave = np.cos(2 * np.pi * (sum(t * axis for t, axis in zip(turns, axes)) + random.uniform()))
            image += wave * random.normal(0, 0.6, (channels,) + (1,) * len(sizes))
        image += random.uniform(0.02, 0.8) * random.standard_normal(image.shape, np.float32)
    return found


@torch.no_grad()
def network(arguments, folder, random):
    """The network, as our model file and as ONNX for one batch."""
    task = {"binary": str(arguments.densenet), "preset": arguments.preset, "dims": arguments.dims}
    net = prepare.fresh(task, folder)
    generator = torch.Generator().manual_seed(arguments.seed)
    samples = [torch.from_numpy(images(16, arguments.shape, random)) for _ in range(arguments.calibration)]
    prepare.randomise_norms(net, generator)
    prepare.estimate_statistics(net, samples)
    logits = torch.cat([net(sample) for sample in samples])
    classifier = prepare.classifier(net)
    deviation = logits.std(0)
    classifier.weight /= deviation[:, None]
    classifier.bias -= logits.mean(0)
    classifier.bias /= deviation
    weights, model, graph = (folder / name for name in ("weights.safetensors", "model.safetensors", "model.onnx"))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, weights)
    prepare.densenet(arguments.densenet, "import", weights, "-o", model)
    example = torch.zeros(arguments.batch, *arguments.shape)
    torch.onnx.export(net, (example,), graph, dynamo=True, external_data=False, verbose=False)
    return model, graph


def ours(program, model, x, folder, threads, dtype):
    """Logits of `densenet infer`; None where this version has no bf16."""
    command = [program, "infer", model, "--input", x, "--output", folder / "y.npy", "--threads", threads]
    done = subprocess.run([*map(str, command), "--dtype", dtype], capture_output=True, text=True)
    if done.returncode == 2 and dtype == "bf16":
        print(done.stderr.strip(), file=sys.stderr)
        return None
    if done.returncode:
        sys.exit(done.stderr.strip())
    return np.load(folder / "y.npy")


def compare(f32, bf16, stated):
    """Agreement and errors of one engine."""
    margin = np.diff(np.sort(f32, axis=1)[:, -2:], axis=1)[:, 0]
    same = f32.argmax(1) == bf16.argmax(1)
    counted = margin > stated
    error = bf16.astype(np.float64) - f32
    return {
        "inputs": len(f32),
        "classes_seen": len(np.unique(f32.argmax(1))),
        "counted": int(counted.sum()),
        "agreement": float(same[counted].mean()) if counted.any() else None,
        "agreement_of_all": float(same.mean()),
        "largest_error": float(np.abs(error).max()),
        "rms_error": float(np.sqrt((error**2).mean())),
        "logits_rms": float(np.sqrt((f32.astype(np.float64) ** 2).mean())),
        "largest_margin_lost": float(margin[~same].max(initial=0.0)),
    }


def collect(arguments):
    """Logits of every engine and precision over all inputs."""
    random = np.random.default_rng(arguments.seed)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, graph = network(arguments, folder, random)
        theirs = {precision: compiled(graph, arguments.threads, precision) for precision in ("f32", "bf16")}
        for first in range(0, arguments.count, arguments.batch):
            data = images(arguments.batch, arguments.shape, random)
            np.save(folder / "x.npy", data)
            for precision, engine in theirs.items():
                logits = engine(openvino.Tensor(data))[0].astype(np.float32)
                found.setdefault(("OpenVINO", precision), []).append(logits)
                logits = ours(arguments.densenet, model, folder / "x.npy", folder, arguments.threads, precision)
                if logits is not None:
                    found.setdefault(("densenet", precision), []).append(logits)
            print(f"{first + arguments.batch} of {arguments.count}", file=sys.stderr)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("densenet", type=Path)
    parser.add_argument("--preset", default="densenet121")
    parser.add_argument("--dims", type=int, default=2, choices=(2, 3))
    parser.add_argument("--size", type=int, help="default: 224; 64 in 3-D")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=50, help="inputs in a file")
    parser.add_argument("--calibration", type=int, default=8, help="batches of 16 to estimate statistics from")
    parser.add_argument("--stated-error", type=float, default=0.1, help="in deviations of a logit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    size = arguments.size or (224 if arguments.dims == 2 else 64)
    arguments.shape = (3, size, size) if arguments.dims == 2 else (1, size, size, size)
    torch.set_num_threads(arguments.threads)
    logits = collect(arguments)
    between = np.abs(logits["densenet", "f32"] - logits["OpenVINO", "f32"]).max()
    print(f"f32 of both engines: largest difference {between:.1e}")
    results = {
        engine: compare(logits[engine, "f32"], logits[engine, "bf16"], arguments.stated_error)
        for engine in ("densenet", "OpenVINO")
        if (engine, "bf16") in logits
    }
    print("| bf16 against f32 | " + " | ".join(results) + " |\n|---" + "|---:" * len(results) + "|")
    for figure in results["OpenVINO"]:
        cells = [f"{value[figure]:.6g}" if value[figure] is not None else "–" for value in results.values()]
        print(f"| {figure.replace('_', ' ')} | " + " | ".join(cells) + " |")
    if arguments.json:
        about = {key: str(value) for key, value in vars(arguments).items()}
        arguments.json.write_text(json.dumps({"options": about, **results}, indent=1) + "\n")
    mine, theirs = results.get("densenet"), results["OpenVINO"]
    if mine is None:
        sys.exit("densenet: no bf16 in this version")
    sys.exit(not (mine["agreement"] is not None and mine["agreement"] >= max(AGREEMENT, theirs["agreement"] or 0.0)))


if __name__ == "__main__":
    main()
