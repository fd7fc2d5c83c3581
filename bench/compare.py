"""Times `densenet` against PyTorch on the same weights and inputs.

For every case both programs first compute the same logits (within 1e-4 of the largest), then take turns: a block of
runs of ours, a block of every rival's, round after round, so that a drift of the machine's speed meets all alike. The
figure of a program is the median over all its runs, warm-ups left out; the ratio is that of medians. A training step
is forward, cross entropy and backward on both sides, without an optimiser.
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file

THREADS = 2

# name, preset, options of `densenet`, input shape, training
CASES = [
    ("infer 2-D 121 224² b1", "densenet121", [], (1, 3, 224, 224), False),
    ("infer 2-D 121 224² b8", "densenet121", [], (8, 3, 224, 224), False),
    ("infer 3-D 121 64³ b1", "densenet121", ["--dims", "3"], (1, 1, 64, 64, 64), False),
    ("infer 2-D bc-100-12 32² b64", "densenet-bc-100-12", [], (64, 3, 32, 32), False),
    ("train 2-D 121 224² b8", "densenet121", [], (8, 3, 224, 224), True),
    ("train 3-D 121 64³ b2", "densenet121", ["--dims", "3"], (2, 1, 64, 64, 64), True),
    ("train 2-D bc-100-12 32² b64", "densenet-bc-100-12", [], (64, 3, 32, 32), True),
]


def command(binary, *arguments):
    result = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {result.stderr.strip()}")
    return result.stdout


def rival_network(preset, shape):
    """The same network in PyTorch: torchvision's in 2-D, MONAI's in 3-D; the CIFAR network is torchvision's with
    another stem, under the names of a model file. Returns the network and the dialect of its names."""
    if len(shape) == 5:
        from monai.networks.nets import DenseNet121

        return DenseNet121(spatial_dims=3, in_channels=shape[1], out_channels=1000), "monai"
    if preset == "densenet121":
        return torchvision.models.densenet121(weights=None), "torchvision"
    net = torchvision.models.DenseNet(
        growth_rate=12, block_config=(16, 16, 16), num_init_features=24, num_classes=10
    )
    features = torch.nn.Sequential()
    features.add_module("conv0", torch.nn.Conv2d(3, 24, 3, padding=1, bias=False))
    for name, module in net.features.named_children():
        if name not in ("conv0", "norm0", "relu0", "pool0"):
            features.add_module(name, module)
    net.features = features
    return net, None




class Rival:
    """PyTorch in one memory format."""

    def __init__(self, net, data, channels_last, train):
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        layout = formats[data.ndim] if channels_last else torch.contiguous_format
        self.name = "PyTorch channels-last" if channels_last else "PyTorch"
        self.net = net.to(memory_format=layout)
        self.data = data.to(memory_format=layout)
        self.train = train
        self.labels = torch.arange(len(data)) % 10
        self.times = []

    def once(self):
        if self.train:
            self.net.train()
            self.net.zero_grad()
            torch.nn.functional.cross_entropy(self.net(self.data), self.labels).backward()
        else:
            self.net.eval()
            with torch.inference_mode():
                self.net(self.data)

    def block(self, runs):
        self.once()
        for _ in range(runs):
            start = time.perf_counter()
            self.once()
            self.times.append(1e3 * (time.perf_counter() - start))


def run_case(binary, case, rounds, runs, folder):
    name, preset, options, shape, train = case
    model, exported = folder / "model.safetensors", folder / "export.safetensors"
    command(binary, "init", preset, *options, "--seed", 1, "-o", model)
    net, dialect = rival_network(preset, shape)
    if dialect:
        command(binary, "export", model, "-o", exported, "--dialect", dialect)
    net.load_state_dict(load_file(exported if dialect else model), strict=True)
    data = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    np.save(folder / "x.npy", data.numpy())
    command(binary, "infer", model, "--input", folder / "x.npy", "--output", folder / "y.npy")
    with torch.inference_mode():
        theirs = net.eval()(data).numpy()
    # Fresh weights with running statistics 0 and 1 can make logits of any size.
    difference = float(np.abs(np.load(folder / "y.npy") - theirs).max() / max(1.0, np.abs(theirs).max()))
    if difference > 1e-4:
        sys.exit(f"{name}: logits differ by {difference} of the largest")
    size = "x".join(map(str, shape[2:]))
    bench = ["bench", model, "--input", size, "--batch", shape[0], "--threads", THREADS, "--json"]
    bench += ["--iterations", runs, "--warmup", 1] + (["--train"] if train else [])
    rivals = [Rival(net, data, layout, train) for layout in (False, True)]
    ours, peak = [], 0
    for _ in range(rounds):
        report = json.loads(command(binary, *bench))
        ours += report["times_ms"]
        peak = max(peak, report["peak_rss_bytes"])
        for rival in rivals:
            # One network, two layouts: each block brings the weights into its own again.
            layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
            rival.net.to(memory_format=layout if "last" in rival.name else torch.contiguous_format)
            rival.block(runs)
    row = {
        "case": name,
        "ours_ms": statistics.median(ours),
        "rivals_ms": {r.name: statistics.median(r.times) for r in rivals},
        "logits_difference": difference,
        "ours_peak_rss_bytes": peak,
    }
    row["ratio"] = row["ours_ms"] / min(row["rivals_ms"].values())
    return row


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "threads": THREADS,
        "commit": commit,
        "torch": torch.__version__,
        "rows": [],
    }
    print(f"{record['processor']}, {THREADS} threads, commit {commit}, torch {torch.__version__}")
    print(f"{'':30} {'ours':>9} {'PyTorch':>9} {'ch.-last':>9} {'ratio':>6}")
    for case in CASES:
        if arguments.only not in case[0]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = run_case(arguments.binary, case, arguments.rounds, arguments.runs, pathlib.Path(folder))
        record["rows"].append(row)
        rivals = list(row["rivals_ms"].values())
        print(f"{row['case']:30} {row['ours_ms']:9.1f} {rivals[0]:9.1f} {rivals[1]:9.1f} {row['ratio']:6.2f}", flush=True)
    if arguments.record:
        slug = "".join(c if c.isalnum() else "-" for c in record["processor"].lower()).strip("-")
        path = pathlib.Path("bench/records") / f"{record['date']}-{slug}.json"
        path.write_text(json.dumps(record, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
