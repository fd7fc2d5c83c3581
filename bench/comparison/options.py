"""What a run is asked to do."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace


def parse():
    parser = argparse.ArgumentParser(prog="bench/compare", description="Times densenet and its rivals side by side.")
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rivals", default="", help=argparse.SUPPRESS)
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help="training steps instead of predictions")
    parser.add_argument("--avx2", action="store_true", help="keep everyone to AVX2, as far as they can be kept")
    parser.add_argument("--only", action="append", metavar="WORD", help="cases whose name contains it; can be repeated")
    parser.add_argument("--skip", action="append", default=[], metavar="WORD", help="engines to leave out; can be repeated")
    parser.add_argument("--compile", action="store_true", help="torch.compile too; takes minutes to compile")
    parser.add_argument("--record", action="store_true", help="write bench/records/DATE-PROCESSOR-….json and .md")
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it work? not: how fast is it?")
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each engine, the first not counted")
    parser.add_argument("--block-ms", type=float, default=700.0, help="how long a block is to last")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="make models and inputs again")
    return parser.parse_args()


def settings(arguments):
    """The options in the terms of the modules that use them."""
    rivals = "" if arguments.rivals in ("", "none") else str(Path(arguments.rivals).resolve())
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    return SimpleNamespace(
        threads=arguments.threads,
        avx2=arguments.avx2,
        compile=arguments.compile,
        skip=[word.lower() for word in arguments.skip],
        rounds=2 if arguments.quick else max(2, arguments.rounds),
        block_ms=1.0 if arguments.quick else arguments.block_ms,
        most_runs=50,
        warmup=1,
        repeats=2 if arguments.quick else 9,
        quick=arguments.quick,
        rivals=rivals,
        rival_versions=rival_versions(rivals),
        scratch=scratch,
        limited=scratch / "limited",
        precisions={"f32"},
    )


def rival_versions(program):
    if not program:
        return {}
    done = subprocess.run([program, "versions"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program} versions: {done.stderr.strip()}")
    return json.loads(done.stdout)


def wanted(cases, words):
    """Cases whose name contains one of the words."""
    return [case for case in cases if not words or any(word in case.name for word in words)]


def ours_environment(arguments):
    return {"DENSENET_ISA": "avx2"} if arguments.avx2 else {}


def busy():
    """A warning if something else is running."""
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"load average {load:.1f}: this machine is not idle, figures will be wrong", file=sys.stderr)
