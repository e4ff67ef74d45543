"""PyTorch's losses of the trainings in equal.rs: python torch_losses.py > mod.rs"""
import math

import torch
from torch import nn
from torch.nn import functional as F


def data():
    at = torch.arange(640 * 64, dtype=torch.float64)
    n = torch.arange(640)
    return torch.sin(at * 0.37).float().reshape(640, 1, 8, 8), (n * 7 + n // 10) % 10


def set_weights(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            k = sum(name.replace("backbone.", "").replace("head.", "").encode())
            fan_in = math.prod(p.shape[1:])
            base = 1.0 if p.dim() == 1 and name.endswith("weight") else 0.0
            scale = 0.1 if p.dim() == 1 else 1.0 / math.sqrt(fan_in)
            i = torch.arange(p.numel(), dtype=torch.float64)
            p.copy_((base + scale * torch.sin((i + 31 * k) * 0.61)).float().reshape(p.shape))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        changes = a != b or stride != 1
        self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b)) if changes else None

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, c=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        self.layer1 = nn.Sequential(Block(c, c, 1))
        self.layer2 = nn.Sequential(Block(c, 2 * c, 2))
        self.layer3 = nn.Sequential(Block(2 * c, 4 * c, 2))
        self.fc = nn.Linear(4 * c, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def losses(model, make):
    set_weights(model)
    optim = make(model.parameters())
    inputs, targets = data()
    found = []
    for i in range(40):
        rows = slice(16 * (i % 40), 16 * (i % 40) + 16)
        loss = F.cross_entropy(model(inputs[rows]), targets[rows])
        (loss / 2).backward()
        if i % 2 == 1:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optim.step()
            optim.zero_grad()
        found.append(loss.item())
    return found


def sgd(params):
    return torch.optim.SGD(params, 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)


def adam_w(params):
    return torch.optim.AdamW(params, 0.003, weight_decay=0.05)


torch.set_num_threads(1)
print(f"//! What PyTorch {torch.__version__} gives for the trainings of equal.rs: by torch_losses.py.\n")
for name, net in [("MLP", Mlp), ("RESNET", ResNet)]:
    for rule in [sgd, adam_w]:
        print(f"pub const {name}_{rule.__name__.upper()}: [f64; 40] = [")
        for loss in losses(net(), rule):
            print(f"    {loss!r},")
        print("];")
