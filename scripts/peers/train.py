"""Training throughput of PyTorch: forward, cross-entropy, backward and SGD with momentum on one synthetic batch.

    python train.py MODEL [--mode eager|channels_last|compile|compile_channels_last] [--dtype float32|bfloat16] [--batch 64]
        [--threads 2] [--iters 20] [--warm-up 3]

With --dtype bfloat16 forward pass and loss are under autocast.

Prints `images/s X`, X from the median iteration after a warm-up; then the spread, and the peak memory of the process.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

import models


def memory(field):
    """A field of the process's status in MiB: VmRSS (now) or VmHWM (peak)."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field + ":")) / 1024


args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("model", choices=models.MODELS)
args.add_argument("--mode", choices=["eager", "channels_last", "compile", "compile_channels_last"], default="eager")
args.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
args.add_argument("--batch", type=int, default=64)
args.add_argument("--threads", type=int, default=2)
args.add_argument("--iters", type=int, default=20)
args.add_argument("--warm-up", type=int, default=3)
args = args.parse_args()

imported = memory("VmRSS")
torch.set_num_threads(args.threads)
torch.manual_seed(0)
net, (x, y) = models.MODELS[args.model][0]().train(), models.batch(args.model, args.batch)
if args.mode.endswith("channels_last") and x.dim() == 4:
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
run = torch.compile(net) if args.mode.startswith("compile") else net
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)


def step():
    opt.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bfloat16"):
        loss = F.cross_entropy(run(x), y)
    loss.backward()
    opt.step()


for _ in range(args.warm_up):
    step()
seconds = []
for _ in range(args.iters):
    start = time.perf_counter()
    step()
    seconds.append(time.perf_counter() - start)
median = statistics.median(seconds)
print(f"images/s {args.batch / median:.1f} (min {args.batch / max(seconds):.1f} max {args.batch / min(seconds):.1f}), ms/iteration {median * 1e3:.3f}, "
      f"memory at the peak {memory('VmHWM'):.0f} MiB, after the import {imported:.0f} MiB")
