"""Training throughput of PyTorch's DistributedDataParallel over gloo: cross-entropy and SGD with momentum, a thread a process.

    python ddp.py MODEL [--world 2] [--batch 64] [--iters 100]

The batch is that of one process. Prints `images/s X` of all, X from the median iteration after a warm-up. With one process there is no
DDP. The processes keep to a processor each.
"""

import argparse
import os
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

import models

WARM_UP = 5


def main(rank, args):
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {rank})
    torch.manual_seed(0)
    net, (x, y) = models.MODELS[args.model][0]().train(), models.batch(args.model, args.batch)
    run = net
    if args.world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
        dist.init_process_group("gloo", rank=rank, world_size=args.world)
        run = torch.nn.parallel.DistributedDataParallel(net)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    seconds = []
    for _ in range(WARM_UP + args.iters):
        start = time.perf_counter()
        opt.zero_grad()
        F.cross_entropy(run(x), y).backward()
        opt.step()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[WARM_UP:])
    if rank == 0:
        print(f"{args.world} ranks: images/s {args.world * args.batch / median:.1f}, ms/iteration {median * 1e3:.3f}", flush=True)
    if args.world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=models.MODELS)
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--iters", type=int, default=100)
    parser.add_argument("--port", type=int, default=29511)
    args = parser.parse_args()
    if args.world == 1:
        main(0, args)
    else:
        mp.spawn(main, nprocs=args.world, args=(args,))
