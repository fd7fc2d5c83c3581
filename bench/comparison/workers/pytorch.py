"""PyTorch predicting: eager in either memory format, bf16, or compiled."""

import numpy as np
import torch

from ..networks import layout, load
from .serve import forget_peak, job, resident, serve


def main():
    task, channel = job()
    torch.set_num_threads(task["threads"])
    imported = resident()
    data = torch.from_numpy(np.load(task["input"]))
    net = load(task).eval()
    if task["precision"] == "bf16":
        net, data = net.bfloat16(), data.bfloat16()
    if task["channels_last"]:
        net, data = net.to(memory_format=layout(data)), data.contiguous(memory_format=layout(data))
    if task["compile"]:
        if task["simd_bits"]:
            torch._inductor.config.cpp.simdlen = task["simd_bits"]
        net = torch.compile(net)
    loaded = resident()
    forget_peak()

    @torch.inference_mode()
    def run():
        return net(data)

    np.save(task["output"], run().float().numpy())
    serve(
        channel,
        run,
        version=torch.__version__,
        import_rss_bytes=imported,
        loaded_rss_bytes=loaded,
    )


if __name__ == "__main__":
    main()
