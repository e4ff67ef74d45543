"""Inference of torchvision's networks: PyTorch in its modes, and ONNX Runtime where it is installed.

    python infer.py NAME [--batch 1] [--size 224] [--threads 2] [--rounds 20]

NAME is one of torchvision.models, or inception: GoogLeNet's stem and its first block. Prints a line `MODE images/s X` each, X from the median pass; `compile` is
torch.compile of a frozen network without gradients, which folds batch norms by itself.
"""

import argparse
import io
import statistics
import time

import torch
import torchvision
from torch import nn

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("name")
for key, value in dict(batch=1, size=224, threads=2, rounds=20).items():
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


torch.set_num_threads(args.threads)
torch.manual_seed(0)
net = (inception() if args.name == "inception" else torchvision.models.get_model(args.name, weights=None)).eval()
x = torch.randn(args.batch, 3, args.size, args.size)


def measure(mode, run):
    for _ in range(3):
        run()
    seconds = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print(f"{mode} images/s {args.batch / statistics.median(seconds):.1f}", flush=True)


def onnx_runtime():
    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(net, (x,), file, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


with torch.inference_mode():
    measure("eager", lambda: net(x))
    last, xl = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    measure("channels_last", lambda: last(xl))
    net = net.to(memory_format=torch.contiguous_format)
    try:
        measure("onnxruntime", onnx_runtime())
    except ImportError as missing:
        print(f"onnxruntime not measured: {missing}")
    frozen = torch.jit.optimize_for_inference(torch.jit.trace(net, x))
    measure("jit", lambda: frozen(x))
    compiled = torch.compile(net)
    measure("compile", lambda: compiled(x))
