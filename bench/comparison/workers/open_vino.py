"""OpenVINO's CPU plugin with its latency hint, in f32 or bf16."""

import numpy as np
import openvino

from .serve import forget_peak, job, resident, serve


def compiled(model, threads, precision):
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", settings)


def kernels(model):
    """How often each instruction set computes a convolution, as the plugin reports it."""
    found = {}
    for node in model.get_runtime_model().get_ordered_ops():
        info = {key: value.value for key, value in node.get_rt_info().items()}
        if "Convolution" in str(info.get("layerType")):
            kind = str(info.get("primitiveType"))
            found[kind] = found.get(kind, 0) + 1
    return found


def main():
    task, channel = job()
    imported = resident()
    model = compiled(task["onnx"], task["threads"], {"f32": "f32", "bf16": "bf16"}[task["precision"]])
    request = model.create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.load(task["input"])))
    loaded = resident()
    forget_peak()
    request.infer()
    np.save(task["output"], request.get_output_tensor().data.astype(np.float32))
    serve(
        channel,
        request.infer,
        version=openvino.__version__.split("-")[0],
        kernels=kernels(model),
        import_rss_bytes=imported,
        loaded_rss_bytes=loaded,
    )


if __name__ == "__main__":
    main()
