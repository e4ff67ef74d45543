"""The networks of the examples in PyTorch, named alike."""
import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    def __init__(self, hidden, norm=True):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, hidden), nn.Linear(hidden, 10)
        self.norm = nn.BatchNorm1d(hidden) if norm else nn.Identity()

    def forward(self, x):
        return self.fc2(F.relu(self.norm(self.fc1(x.flatten(1)))))


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


class Backbone(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        self.layer1 = nn.Sequential(Block(c, c, 1))
        self.layer2 = nn.Sequential(Block(c, 2 * c, 2))
        self.layer3 = nn.Sequential(Block(2 * c, 4 * c, 2))

    def forward(self, x):
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))).mean((2, 3))


class ResNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.backbone, self.head = Backbone(c), nn.Module()
        self.head.fc = nn.Linear(4 * c, 10)

    def forward(self, x):
        return self.head.fc(self.backbone(x))


def pictures(n):
    at = torch.arange(n * 64, dtype=torch.float64)
    return torch.sin(at * 0.37).float().reshape(n, 1, 8, 8)
