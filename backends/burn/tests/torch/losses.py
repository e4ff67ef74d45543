"""What PyTorch gives for the trainings in equal.rs: python losses.py > losses.rs"""
import math

import torch
from torch import nn
from torch.nn import functional as F

from networks import Mlp, ResNet, pictures


def data():
    n = torch.arange(640)
    return pictures(640), (n * 7 + n // 10) % 10


def set_weights(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            k = sum(name.replace("backbone.", "").replace("head.", "").encode())
            fan_in = math.prod(p.shape[1:])
            base = 1.0 if p.dim() == 1 and name.endswith("weight") else 0.0
            scale = 0.1 if p.dim() == 1 else 1.0 / math.sqrt(fan_in)
            i = torch.arange(p.numel(), dtype=torch.float64)
            p.copy_((base + scale * torch.sin((i + 31 * k) * 0.61)).float().reshape(p.shape))


def train(model, make):
    """The losses of 40 iterations, and the average of the weights."""
    set_weights(model)
    optim = make(model.parameters())
    inputs, targets = data()
    losses, average = [], None
    for i in range(40):
        rows = slice(16 * i, 16 * i + 16)
        loss = F.cross_entropy(model(inputs[rows]), targets[rows])
        (loss / 2).backward()
        if i % 2 == 1:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optim.step()
            optim.zero_grad()
        losses.append(loss.item())
        with torch.no_grad():
            now = [p.detach().clone() for p in model.parameters()]
            average = now if average is None else [a.lerp(p, 0.1) for a, p in zip(average, now)]
    return losses, average


def of_average(model, average):
    """The norm of the average, and the mean loss with it."""
    with torch.no_grad():
        for p, a in zip(model.parameters(), average):
            p.copy_(a)
        inputs, targets = data()
        norm = torch.cat([a.double().flatten() for a in average]).norm()
        return norm.item(), F.cross_entropy(model.eval()(inputs), targets).item()


def sgd(params):
    return torch.optim.SGD(params, 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)


def adam_w(params):
    return torch.optim.AdamW(params, 0.003, weight_decay=0.05)


torch.set_num_threads(1)
print(f"//! What PyTorch {torch.__version__} gives for the trainings of equal.rs: by losses.py.\n")
print("""/// The losses of 40 iterations; of the average of the weights its norm, and the mean loss with it.
pub struct Torch {
    pub losses: [f64; 40],
    pub norm: f64,
    pub val_loss: f64,
}
""")
for name, make in [("MLP", lambda: Mlp(32, norm=False)), ("RESNET", lambda: ResNet(4))]:
    for rule in [sgd, adam_w]:
        model = make()
        losses, average = train(model, rule)
        norm, val_loss = of_average(model, average)
        print(f"pub const {name}_{rule.__name__.upper()}: Torch = Torch {{\n    losses: [")
        print("".join(f"        {loss!r},\n" for loss in losses), end="")
        print(f"    ],\n    norm: {norm!r},\n    val_loss: {val_loss!r},\n}};")
