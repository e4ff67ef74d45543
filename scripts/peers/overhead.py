"""What a framework adds to an iteration: a loop over a loader in memory with a model that does nothing.

    python overhead.py loop|mmengine|mmengine_bare|lightning|lightning_bare|ignite|ignite_hooks [--iters 5000]

loop: the plain Python loop, the floor; mmengine: Runner with its default hooks; mmengine_bare: Runner with all default hooks removed;
lightning: Trainer as it comes, which logs the loss; lightning_bare: without logger, checkpoints, progress bar and summary;
ignite: an Engine alone, as it comes; ignite_hooks: with timer, running average of the loss, a learning-rate schedule and a log line every 10.
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


def lightning(iters, bare=False):
    import lightning.pytorch as pl

    class Nothing(pl.LightningModule):
        automatic_optimization = False  # neither backward nor a step of an optimizer: the loop alone
        seconds = None

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, index):
            if not bare:
                self.log("loss", LOSS, prog_bar=True)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def on_train_epoch_start(self):
            self.start = time.perf_counter()

        def on_train_epoch_end(self):
            self.seconds = time.perf_counter() - self.start

    off = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False) if bare else {}
    with tempfile.TemporaryDirectory() as work_dir:
        model = Nothing()
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", devices=1, default_root_dir=work_dir, **off)
        trainer.fit(model, Loader(iters))
        assert trainer.fit_loop.total_batch_idx + 1 == iters
        return model.seconds


def ignite(iters, hooks=False):
    from ignite.engine import Engine, Events

    engine = Engine(lambda engine, batch: {"loss": 0.0})
    times = {}
    if hooks:
        from ignite.handlers import LRScheduler, Timer
        from ignite.metrics import RunningAverage

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        Timer(average=True).attach(engine, start=Events.STARTED, resume=Events.ITERATION_STARTED, pause=Events.ITERATION_COMPLETED, step=Events.ITERATION_COMPLETED)
        RunningAverage(output_transform=lambda out: out["loss"]).attach(engine, "loss")
        engine.add_event_handler(Events.ITERATION_STARTED, LRScheduler(torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)))
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=10), lambda e: print(e.state.iteration, e.state.metrics["loss"]))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: times.update(start=time.perf_counter()))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: times.update(end=time.perf_counter()))
    engine.run(Loader(iters), max_epochs=1)
    assert engine.state.iteration == iters
    return times["end"] - times["start"]


@contextlib.contextmanager
def silence():
    """Both streams of the process: loggers may hold on to the old ones."""
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    yield
    os.dup2(kept[0], 1), os.dup2(kept[1], 2)


args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
KINDS = {
    "loop": loop,
    "mmengine": mmengine,
    "mmengine_bare": lambda n: mmengine(n, bare=True),
    "lightning": lightning,
    "lightning_bare": lambda n: lightning(n, bare=True),
    "ignite": ignite,
    "ignite_hooks": lambda n: ignite(n, hooks=True),
}
args.add_argument("kind", choices=KINDS)
args.add_argument("--iters", type=int, default=5000)
args = args.parse_args()
torch.set_num_threads(1)
run = KINDS[args.kind]
with silence():
    run(min(500, args.iters))
    micros = sorted(run(args.iters) / args.iters * 1e6 for _ in range(5))
print(f"{args.kind}, {args.iters} iterations: {statistics.median(micros):.2f} us an iteration ({micros[0]:.2f}-{micros[-1]:.2f})")
