"""Holds `densenet export` and `densenet import` against everybody else who speaks ONNX.

    cargo build --release
    python tools/onnx/check.py target/release/densenet [--part structure|runtimes|pytorch]... [--only WORD]...

structure   Every opset from 13 to the newest that the `onnx` package knows, every option of the exporter, 2-D and 3-D,
            every option of the architecture: the checker's full check; strict shape inference with data propagation,
            which has to agree with our shapes value by value, once with the names of open sizes and once more with
            numbers put in their place.
runtimes    Every preset in 2-D and 3-D and every option: ONNX Runtime, OpenVINO and tract answer the same random inputs as
            `densenet infer`, in batches of 1, 2 and 7 and two sizes. What is imported again answers the same, too.
pytorch     What PyTorch exports of torchvision's and MONAI's networks, by both of its exporters, with norms folded and
            not: imported, `densenet infer` answers as PyTorch does.

Prints a line for each case; the exit status is 1 if anything differs. --only keeps the cases whose name contains a WORD.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import onnx

import pytorch
import runtimes
import structure
from command import Command

PARTS = {"structure": structure.check, "runtimes": runtimes.check, "pytorch": pytorch.check}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()
    print(f"onnx {onnx.__version__}, opset {onnx.defs.onnx_opset_version()}; {runtimes.versions()}; {pytorch.versions()}")
    cases = failures = 0
    with tempfile.TemporaryDirectory() as folder:
        command = Command(arguments.program, Path(folder))
        for part in arguments.part or PARTS:
            for name, check in PARTS[part](command):
                if arguments.only and not any(word in name for word in arguments.only):
                    continue
                cases += 1
                try:
                    said = check()
                except Exception as error:  # noqa: BLE001 - the other cases still count
                    failures += 1
                    said = f"FAILED {type(error).__name__}: {' '.join(str(error).split())[:400]}"
                command.clear()
                print(f"{part:9}  {name:60}  {said}", flush=True)
    print(f"{cases} cases, {failures} failures")
    sys.exit(failures > 0 or cases == 0)


if __name__ == "__main__":
    main()
