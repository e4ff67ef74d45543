"""Inference of torchvision's networks by turns: shanty one by one and fused, PyTorch in its modes, and ONNX Runtime where it is installed.

    python infer.py NAME BENCH YAML [--batch 1] [--size 224] [--threads 2] [--rounds 5] [--passes 4]

NAME is one of torchvision.models, or inception: GoogLeNet's stem and its first block. BENCH is bench_infer of shanty, YAML its network. In each
round every mode makes a pass that is not counted and PASSES that are, after a pause in which the threads of the others go to sleep. Prints a row
of a table: the images/s of the median pass of each mode, and the largest difference of shanty's two results, in units of the largest. `compile` is
torch.compile of a network without gradients, which folds batch norms by itself where inductor's freezing is on, as here.
"""

import argparse
import io
import statistics
import subprocess
import sys
import time
import warnings

import torch
import torchvision
from torch import nn

MODES = ["plain", "fused", "eager", "channels last", "compile", "ONNX Runtime"]

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("name")
args.add_argument("bench")
args.add_argument("yaml")
for key, value in dict(batch=1, size=224, threads=2, rounds=5, passes=4).items():
    args.add_argument(f"--{key}", type=int, default=value)
args = args.parse_args()


def conv(cin, cout, kernel, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class Inception(nn.Module):
    """Block 3a of GoogLeNet."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([
            conv(192, 64, 1), nn.Sequential(conv(192, 96, 1), conv(96, 128, 3)), nn.Sequential(conv(192, 16, 1), conv(16, 32, 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(192, 32, 1)),
        ])

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception():
    pool = [nn.MaxPool2d(3, 2, 1) for _ in range(2)]
    features = [conv(3, 64, 7, 2), pool[0], conv(64, 64, 1), conv(64, 192, 3), pool[1], Inception()]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 1000))


def make():
    torch.manual_seed(0)
    return (inception() if args.name == "inception" else torchvision.models.get_model(args.name, weights=None)).eval()


def timed(run):
    def seconds():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds


def shanty():
    """Its two modes, and the difference of their results."""
    given = {"--batch": args.batch, "--size": args.size, "--threads": args.threads, "--rounds": 0}
    command = [args.bench, args.yaml, *(str(word) for pair in given.items() for word in pair)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    difference = process.stdout.readline().split()[-1]

    def mode(name):
        def seconds():
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        return seconds

    return mode("plain"), mode("fused"), difference


def onnx_runtime(x):
    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(make(), (x,), file, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


def compiled(x):
    torch._inductor.config.freezing = True
    run = torch.compile(make())
    run(x)
    return lambda: run(x)


torch.set_num_threads(args.threads)
warnings.filterwarnings("ignore")
x = torch.randn(args.batch, 3, args.size, args.size)
found = {mode: [] for mode in MODES}
with torch.no_grad():
    plain, fused, difference = shanty()
    net, last, xl = make(), make().to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    modes = {"plain": plain, "fused": fused, "eager": timed(lambda: net(x)), "channels last": timed(lambda: last(xl))}
    for name, more in [("compile", compiled), ("ONNX Runtime", onnx_runtime)]:
        try:
            modes[name] = timed(more(x))
        except Exception as error:
            print(f"{args.name}: {name} is not measured: {str(error).strip().splitlines()[0]}", file=sys.stderr)
    for _ in range(args.rounds):
        for name, seconds in modes.items():
            time.sleep(0.1)
            found[name] += [seconds() for _ in range(args.passes + 1)][1:]
rates = {mode: args.batch / statistics.median(seconds) for mode, seconds in found.items() if seconds}
cells = [f"{rates[mode]:.1f}" if mode in rates else "–" for mode in MODES]
print(" | ".join([f"| {args.name}, {args.batch}", *cells, f"{rates['fused'] / rates['plain']:.2f}", f"{difference} |"]), flush=True)
