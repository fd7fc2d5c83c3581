"""The worker's side: answer the input once, then run blocks as asked, and block on the pipe in between.

One JSON document a line. The worker speaks first: what it is, its version, its memory, and that its logits lie at the
job's `output`. Then the parent sends {"warmup": n, "runs": n} and gets {"times_ms": [...], "peak_rss_bytes": n}, as often as
it likes; the end of the pipe ends the worker.
"""

import json
import os
import sys
import time


def job():
    """What the parent asks for, and a channel that no library's print can reach."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return json.loads(sys.argv[1]), channel


def resident(field="VmRSS"):
    """Resident memory of this process in bytes: VmRSS now, VmHWM at its peak."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return 1024 * int(line.split()[1])
    return 0


def forget_peak():
    """Lets the peak start again from what is resident now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def serve(channel, run, **about):
    """Answers until the parent closes the pipe. `run` does the work once."""

    def say(document):
        print(json.dumps(document), file=channel, flush=True)

    say(about)
    for line in sys.stdin:
        request = json.loads(line)
        for _ in range(request["warmup"]):
            run()
        times = []
        for _ in range(request["runs"]):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        say({"times_ms": times, "peak_rss_bytes": resident("VmHWM")})
