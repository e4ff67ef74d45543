"""The eight tasks in shanty and in PyTorch, each with several seeds: a table in Markdown.

    cargo build --release && cargo build --release --example dump_data
    python scripts/peers/tasks/compare.py [--shanty target/release/shanty] [--seeds 3] [--threads 2] [TASK ...]

shanty's seconds are those of the whole process `shanty train`, with its validations, checkpoints and logs; PyTorch's those of
the training loop alone, on one thread if that is faster. Of the seeds the fastest counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TASKS = {  # the config, its last checkpoint, the figures
    "houses": ("houses_mlp", "epoch_60", ["mae", "r2"]),
    "shops": ("shops_mlp", "epoch_20", ["accuracy/top1"]),
    "weather": ("weather_labels", "epoch_30", ["multi-label/f1-score"]),
    "words": ("words_chars", "epoch_10", ["accuracy/top1"]),
    "waves": ("waves_mlp", "epoch_20", ["mae", "r2"]),
    "digits": ("digits_two_heads", "epoch_10", ["accuracy/top1", "multi-label/f1-score"]),
    "shapes": ("shapes_masks", "epoch_12", ["mIoU"]),
    "autoencoder": ("waves_autoencoder", "epoch_20", ["mse", "r2"]),
}

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("tasks", nargs="*", default=list(TASKS))
args.add_argument("--shanty", default=ROOT / "target/release/shanty", type=Path)
args.add_argument("--seeds", type=int, default=3)
args.add_argument("--threads", type=int, default=2)
args = args.parse_args()
env = {**os.environ, "RAYON_NUM_THREADS": str(args.threads)}
quiet = {"env": env, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def of_shanty(config, checkpoint, seed, dir):
    work = f"{dir}/{seed}"
    set_ = ["--set", f"randomness.seed={seed}", "--work-dir", work]
    began = time.perf_counter()
    subprocess.run([args.shanty, "train", config, *set_], **quiet)
    seconds = time.perf_counter() - began
    out = f"{work}/figures.json"
    subprocess.run([args.shanty, "val", config, f"{work}/{checkpoint}", "--out", out, "--set", f"work_dir={work}/val"], **quiet)
    return {**json.loads(Path(out).read_text()), "seconds": seconds}


def of_pytorch(task, data, seed):
    """The run with the better number of threads: a small network is often faster on one."""
    command = [sys.executable, HERE / f"{task}.py", data, "--seed", str(seed), "--threads"]
    outs = [subprocess.run([*command, str(n)], check=True, capture_output=True).stdout for n in {1, args.threads}]
    return min(map(json.loads, outs), key=lambda run: run["seconds"])


def span(runs, name):
    low, high = (pick(run[name] for run in runs) for pick in (min, max))
    digits = 4 if high < 0.01 else 3 if high < 2 else 2 if high < 20 else 1
    return f"{low:.{digits}f}–{high:.{digits}f}"


print("| task | figure | shanty | PyTorch | shanty, s | PyTorch, s |\n|---|---|---|---|---|---|")
for task in args.tasks:
    name, checkpoint, figures = TASKS[task]
    config = ROOT / f"configs/{name}.yaml"
    with tempfile.TemporaryDirectory() as dir:
        subprocess.run([args.shanty.parent / "examples/dump_data", config, f"{dir}/data"], **quiet)
        ours = [of_shanty(config, checkpoint, seed, dir) for seed in range(args.seeds)]
        theirs = [of_pytorch(task, f"{dir}/data", seed) for seed in range(args.seeds)]
    seconds = [f"{min(run['seconds'] for run in runs):.2f}" for runs in (ours, theirs)]
    for i, figure in enumerate(figures):
        time_ = " | ".join(seconds if i == 0 else ["", ""])
        print(f"| {task if i == 0 else ''} | {figure} | {span(ours, figure)} | {span(theirs, figure)} | {time_} |", flush=True)
