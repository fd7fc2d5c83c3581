"""The `densenet` program that is measured, whatever it already offers."""

import json
import os
import subprocess
from pathlib import Path


class Refused(Exception):
    """The program ended with an error: its message."""


class Ours:
    def __init__(self, binary, environment=None):
        self.binary = str(Path(binary).resolve())
        self.environment = {**os.environ, **(environment or {})}

    def run(self, *arguments):
        done = subprocess.run(
            [self.binary, *map(str, arguments)], capture_output=True, text=True, env=self.environment
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise Refused(lines[-1].removeprefix("error: "))
        return done.stdout

    def version(self):
        return self.run("--version").strip().removeprefix("densenet ")

    def offers_bf16(self):
        """Whether it computes in bf16 at all; a tiny network, so that asking costs nothing."""
        return self.accepts("--dtype", "bf16")

    def accepts(self, *options):
        """Whether `bench` takes these options."""
        tiny = ["densenet-bc-100-12", "--block-config", "1,1,1", "--iterations", 1, "--warmup", 0, "--json"]
        try:
            self.run("bench", *tiny, *options)
        except Refused:
            return False
        return True

    def bench(self, model, case, threads, warmup, runs, *options):
        """A block of runs in a process of its own: what `bench --json` says."""
        size = "x".join(map(str, case.shape[2:]))
        return json.loads(
            self.run(
                "bench", model, "--input", size, "--batch", case.batch, "--threads", threads,
                "--warmup", warmup, "--iterations", runs, "--json", *options,
            )
        )

    def infer(self, model, input, output, threads, *options):
        self.run("infer", model, "--input", input, "--output", output, "--threads", threads, *options)
