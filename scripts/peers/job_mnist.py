"""A whole job in PyTorch: LeNet-5 on MNIST, one epoch and the test accuracy.

    python job_mnist.py plain|slice|mmengine --data DIR [--batch 64] [--threads 2]

plain: a loop over a DataLoader; slice: the same loop over slices of one tensor, the quickest way; mmengine: MMEngine's Runner with its default hooks.
All three keep the images as bytes and resize and normalise a batch at a time, as configs/mnist_lenet5.yaml does.
"""

import argparse
import os
import resource
import tempfile

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import mnist
from models import LeNet5

SGD = dict(lr=0.01, momentum=0.9, weight_decay=1e-4)
first = None


def since_start():
    """Seconds since the process started, the imports included."""
    with open("/proc/self/stat") as f:
        started = float(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime") as f:
        return float(f.read().split()[0]) - started


def mark():
    global first
    first = since_start() if first is None else first


def plain(train, test, batch, slicing):
    net = LeNet5()
    opt = torch.optim.SGD(net.parameters(), **SGD)
    if slicing:
        batches = ((train[0][rows], train[1][rows]) for rows in torch.randperm(len(train[0])).split(batch))
    else:
        batches = DataLoader(TensorDataset(*train), batch, shuffle=True)
    for x, y in batches:
        x = mnist.prepare(x)
        mark()
        loss = F.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        hits = sum((net(mnist.prepare(x)).argmax(1) == y).sum().item() for x, y in zip(test[0].split(500), test[1].split(500)))
    return hits / len(test[0])


def mmengine(train, test, batch):
    from mmengine.evaluator import BaseMetric
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Classifier(BaseModel):
        def __init__(self):
            super().__init__()
            self.backbone = LeNet5()

        def forward(self, inputs, labels, mode="tensor"):
            x = mnist.prepare(inputs)
            mark()
            logits = self.backbone(x)
            return {"loss": F.cross_entropy(logits, labels)} if mode == "loss" else (logits, labels)

    class Accuracy(BaseMetric):
        def process(self, data_batch, data_samples):
            logits, labels = data_samples
            self.results.append(((logits.argmax(1) == labels).sum().item(), len(labels)))

        def compute_metrics(self, results):
            return {"top1": sum(hits for hits, _ in results) / sum(count for _, count in results)}

    with tempfile.TemporaryDirectory() as work_dir:
        runner = Runner(
            Classifier(), work_dir,
            train_dataloader=DataLoader(TensorDataset(*train), batch, shuffle=True),
            val_dataloader=DataLoader(TensorDataset(*test), 500),
            val_evaluator=[Accuracy()],
            train_cfg=dict(by_epoch=True, max_epochs=1), val_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type="SGD", **SGD)),
        )
        runner.train()
        return float(runner.message_hub.get_scalar("val/top1").current())


args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("kind", choices=["plain", "slice", "mmengine"])
args.add_argument("--data", required=True, help="folder of the MNIST IDX files")
args.add_argument("--batch", type=int, default=64)
args.add_argument("--threads", type=int, default=2)
args = args.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
train, test = mnist.load_bytes(args.data, "train"), mnist.load_bytes(args.data, "t10k")
accuracy = mmengine(train, test, args.batch) if args.kind == "mmengine" else plain(train, test, args.batch, args.kind == "slice")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{args.kind} threads {args.threads}: first iteration at {first:.2f} s, whole job {since_start():.2f} s, peak memory {peak:.0f} MiB, accuracy {100 * accuracy:.2f} %")
