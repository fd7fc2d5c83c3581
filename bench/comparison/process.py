"""The parent's side of a worker: start it, let it run a block, and keep it from running at any other time.

ONNX Runtime's and OpenMP's threads spin for a while after their work is done and would take a core from whoever is timed
next, so a worker that is not asked is stopped by a signal.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent


class Gone(Exception):
    """The worker ended: why, as far as it said."""


class Worker:
    def __init__(self, command, environment, log):
        self.log = log
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=HOME,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                text=True,
            )

    def hear(self):
        """What it says next; stops it afterwards."""
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Gone(self.last_words())
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def block(self, warmup, runs):
        """Milliseconds of each run, and the peak of its resident memory so far."""
        self.process.stdin.write(json.dumps({"warmup": warmup, "runs": runs}) + "\n")
        self.process.stdin.flush()
        self.process.send_signal(signal.SIGCONT)
        return self.hear()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def last_words(self):
        """The last line of its log that says something."""
        lines = [line.strip() for line in Path(self.log).read_text(errors="replace").splitlines()]
        lines = [line for line in lines if line and not line.startswith(("note:", "stack backtrace"))]
        status = self.process.returncode
        return lines[-1][:200] if lines else f"ended with status {status}"


def python(module, task):
    """The command of a worker written in Python."""
    return [sys.executable, "-m", f"comparison.{module}", json.dumps(task)]
