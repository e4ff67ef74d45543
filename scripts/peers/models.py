"""The five networks that are measured, in plain PyTorch. LeNet5's weight names are MMPretrain's."""

import torch
import torch.nn.functional as F
from torch import nn


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


class LeNet5(nn.Module):
    """LeCun et al. 1998: 32x32 input, tanh, average pooling."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(16, 120, 5), nn.Tanh(),
        )
        self.classifier = nn.Sequential(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        same = cin == cout and stride == 1
        self.downsample = nn.Identity() if same else nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet(nn.Module):
    """For 32x32 images: 3x3 stem, one stage a width, `blocks` blocks a stage, the first of a stage halves the image."""

    def __init__(self, widths, blocks):
        super().__init__()
        cin = widths[0]
        self.conv1, self.bn1 = nn.Conv2d(3, cin, 3, 1, 1, bias=False), nn.BatchNorm2d(cin)
        body = []
        for stage, cout in enumerate(widths):
            for block in range(blocks):
                body.append(Block(cin, cout, 2 if stage > 0 and block == 0 else 1))
                cin = cout
        self.body, self.fc = nn.Sequential(*body), nn.Linear(cin, 10)

    def forward(self, x):
        return self.fc(self.body(F.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


class ViT(nn.Module):
    """Pre-norm encoder, dim 192, depth 4, 3 heads; 8x8 patches of 4x4 pixels and a class token: 65 tokens."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 192, 4, 4)
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, 192)), nn.Parameter(torch.zeros(1, 65, 192))
        layer = nn.TransformerEncoderLayer(192, 3, 768, 0.0, F.gelu, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.encoder(x)[:, 0]))


MODELS = {  # name: (constructor, shape of one input)
    "mlp": (mlp, (1, 28, 28)),
    "lenet5": (LeNet5, (1, 32, 32)),
    "resnet20": (lambda: ResNet([16, 32, 64], 3), (3, 32, 32)),
    "resnet18": (lambda: ResNet([64, 128, 256, 512], 2), (3, 32, 32)),
    "vit": (ViT, (3, 32, 32)),
}
