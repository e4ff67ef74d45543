"""LeNet-5 on MNIST in plain PyTorch, in the network, recipe, batch-order policy and initialisation of configs/mnist_lenet5.yaml.

    python parity_mnist.py --data DIR [--epochs 5] [--seed 0] [--threads 1]
"""

import argparse
import time

import torch
import torch.nn.functional as F

from peers import mnist
from peers.models import LeNet5

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("--data", required=True, help="folder of the MNIST IDX files")
args.add_argument("--epochs", type=int, default=5)
args.add_argument("--seed", type=int, default=0)
args.add_argument("--threads", type=int, default=1)
args = args.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
net = LeNet5()  # PyTorch's default initialisation: weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in))
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
x, y = mnist.load(args.data, "train")
x_test, y_test = mnist.load(args.data, "t10k")

for epoch in range(1, args.epochs + 1):
    start = time.perf_counter()
    net.train()
    total = 0.0
    for rows in torch.randperm(len(x)).split(128):  # a fresh permutation each epoch, the short last batch kept
        loss = F.cross_entropy(net(x[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(rows)
    seconds = time.perf_counter() - start
    net.eval()
    with torch.no_grad():
        hits = sum((net(a).argmax(1) == b).sum().item() for a, b in zip(x_test.split(500), y_test.split(500)))
    print(f"seed {args.seed} epoch {epoch}: train loss {total / len(x):.4f}, test accuracy {100 * hits / len(x_test):.2f} %, {seconds:.1f} s", flush=True)
