"""PyTorch training: forward, cross entropy, backward, SGD with momentum."""

import numpy as np
import torch

from ..networks import layout, load
from .serve import forget_peak, job, resident, serve


def main():
    task, channel = job()
    torch.set_num_threads(task["threads"])
    imported = resident()
    data = torch.from_numpy(np.load(task["input"]))
    net = load(task).train()
    if task["channels_last"]:
        net, data = net.to(memory_format=layout(data)), data.contiguous(memory_format=layout(data))
    labels = torch.arange(len(data)) % 10
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    run_net = net
    if task["compile"]:
        run_net = torch.compile(net)
    loaded = resident()
    forget_peak()

    def run():
        optimizer.zero_grad()
        logits = run_net(data)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        return logits

    first = run()
    np.save(task["output"], first.detach().numpy())
    del first
    serve(
        channel,
        run,
        version=torch.__version__,
        import_rss_bytes=imported,
        loaded_rss_bytes=loaded,
    )


if __name__ == "__main__":
    main()
