"""What a framework adds to an iteration: a loop over a loader in memory with a model that does nothing.

    python overhead.py loop|mmengine|mmengine_bare [--iters 5000]

loop: the plain Python loop, the floor; mmengine: Runner with its default hooks; mmengine_bare: Runner with all default hooks removed.
Prints microseconds an iteration, median (min-max) of 5 runs.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time

import torch

BATCH, LOSS = torch.zeros(1), torch.zeros(1)
SLOTS = ["runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"]


class Loader:
    dataset, batch_size = [BATCH], 1

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __iter__(self):
        return (BATCH for _ in range(self.length))


def loop(iters):
    start = time.perf_counter()
    for _ in Loader(iters):
        loss = LOSS  # noqa: F841
    return time.perf_counter() - start


def mmengine(iters, bare=False):
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Nothing(BaseModel):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def train_step(self, data, optim_wrapper):
            return {"loss": LOSS}

        def forward(self, *args, **kwargs):
            pass

    with tempfile.TemporaryDirectory() as work_dir:
        runner = Runner(
            Nothing(), work_dir,
            train_dataloader=Loader(iters), train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
            default_hooks=dict.fromkeys(SLOTS) if bare else None,
            experiment_name=f"overhead_{time.time_ns()}",
        )
        runner._train_loop = train_loop = runner.build_train_loop(runner._train_loop)
        run_epoch, seconds = train_loop.run_epoch, []

        def timed():  # the epoch alone: neither set-up nor the checkpoint at its end
            start = time.perf_counter()
            run_epoch()
            seconds.append(time.perf_counter() - start)

        train_loop.run_epoch = timed
        runner.train()
        assert runner.iter == iters and len(seconds) == 1
        return seconds[0]


@contextlib.contextmanager
def silence():
    """Both streams of the process: loggers may hold on to the old ones."""
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    yield
    os.dup2(kept[0], 1), os.dup2(kept[1], 2)


args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("kind", choices=["loop", "mmengine", "mmengine_bare"])
args.add_argument("--iters", type=int, default=5000)
args = args.parse_args()
torch.set_num_threads(1)
run = {"loop": loop, "mmengine": mmengine, "mmengine_bare": lambda n: mmengine(n, bare=True)}[args.kind]
with silence():
    run(min(500, args.iters))
    micros = sorted(run(args.iters) / args.iters * 1e6 for _ in range(5))
print(f"{args.kind}, {args.iters} iterations: {statistics.median(micros):.2f} us an iteration ({micros[0]:.2f}-{micros[-1]:.2f})")
