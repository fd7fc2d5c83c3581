"""ONNX Runtime's CPU provider, as it comes: every graph optimisation, spinning threads, memory arena."""

import numpy as np
import onnxruntime

from .serve import forget_peak, job, resident, serve


def session(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main():
    task, channel = job()
    imported = resident()
    engine = session(task["onnx"], task["threads"])
    feed = {engine.get_inputs()[0].name: np.load(task["input"])}
    loaded = resident()
    forget_peak()
    np.save(task["output"], engine.run(None, feed)[0])
    serve(
        channel,
        lambda: engine.run(None, feed),
        version=onnxruntime.__version__,
        import_rss_bytes=imported,
        loaded_rss_bytes=loaded,
    )


if __name__ == "__main__":
    main()
