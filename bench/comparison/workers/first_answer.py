"""One prediction and nothing else: THREADS MODEL.onnx X.npy onnx_runtime | open_vino PRECISION.

Imports the engine and numpy alone, so that the peak is what a small program around the engine would need.
"""

import json
import sys
import time

import numpy as np


def main():
    threads, model, data, engine, *precision = sys.argv[1:]
    if engine == "onnx_runtime":
        from .onnx_runtime import session as prepared
    else:
        from .open_vino import compiled as prepared
    from .serve import resident

    start = time.perf_counter()
    ready = prepared(model, int(threads), *precision)
    x = np.load(data)
    if engine == "onnx_runtime":
        logits = ready.run(None, {ready.get_inputs()[0].name: x})[0]
    else:
        logits = ready(x)[0]
    milliseconds = 1e3 * (time.perf_counter() - start)
    if not np.isfinite(logits).all():
        sys.exit("a logit is not finite")
    print(json.dumps({"milliseconds": milliseconds, "peak_rss_bytes": resident("VmHWM")}))


if __name__ == "__main__":
    main()
