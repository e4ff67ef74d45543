"""The networks that are measured, in plain PyTorch or torchvision's. LeNet5's weight names are MMPretrain's."""

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


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions."""

    def __init__(self, cin, cout):
        layers = [(nn.Conv2d(c, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)) for c in (cin, cout)]
        super().__init__(*layers[0], *layers[1])


class UNet(nn.Module):
    """MMSegmentation's, with 3 classes a pixel."""

    def __init__(self, base=32, stages=4, classes=3):
        super().__init__()
        widths = [base << i for i in range(stages)]
        self.encoder = nn.ModuleList(ConvBlock(a, b) for a, b in zip([3, *widths], widths))
        self.decoder = nn.ModuleList(ConvBlock(2 * w, w) for w in widths[:-1])
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2 * w, w, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True))
            for w in widths[:-1])
        self.head = nn.Conv2d(base, classes, 1)

    def forward(self, x):
        seen = []
        for i, stage in enumerate(self.encoder):
            x = stage(F.max_pool2d(x, 2) if i > 0 else x)
            seen.append(x)
        for up, block, skip in reversed(list(zip(self.up, self.decoder, seen))):
            x = block(torch.cat([skip, up(x)], 1))
        return self.head(x)


class LSTM(nn.Module):
    """The next of 64 characters, by two layers of 256."""

    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(64, 256), nn.LSTM(256, 256, 2, batch_first=True), nn.Linear(256, 64)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x))[0]).flatten(0, 1)


class Transformer(nn.Module):
    """The next of 64 characters, by six pre-norm layers of 256 with four heads."""

    def __init__(self, length=128):
        super().__init__()
        self.embed, self.positions = nn.Embedding(64, 256), nn.Parameter(0.02 * torch.randn(length, 256))
        layer = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, F.gelu, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, nn.LayerNorm(256), enable_nested_tensor=False)
        self.head = nn.Linear(256, 64)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x):
        return self.head(self.layers(self.embed(x) + self.positions, self.mask, is_causal=True)).flatten(0, 1)


def torchvision(name):
    """torchvision's network of this name, of a thousand classes."""

    def make():
        import torchvision

        return torchvision.models.get_model(name, weights=None)

    return make


MODELS = {  # name: (constructor, shape of one input)
    "mlp": (mlp, (1, 28, 28)),
    "lenet5": (LeNet5, (1, 32, 32)),
    "resnet20": (lambda: ResNet([16, 32, 64], 3), (3, 32, 32)),
    "resnet18": (lambda: ResNet([64, 128, 256, 512], 2), (3, 32, 32)),
    "vit": (ViT, (3, 32, 32)),
    "resnet50": (torchvision("resnet50"), (3, 224, 224)),
    "mobilenet_v2": (torchvision("mobilenet_v2"), (3, 224, 224)),
    "shufflenet_v2": (torchvision("shufflenet_v2_x1_0"), (3, 224, 224)),
    "unet": (UNet, (3, 64, 64)),
    "lstm": (LSTM, (64,)),
    "transformer": (Transformer, (128,)),
}
CLASSES = {"resnet50": 1000, "mobilenet_v2": 1000, "shufflenet_v2": 1000, "unet": 3, "lstm": 64, "transformer": 64}


def batch(name, n):
    """A synthetic batch and its classes: ten unless said, of a sample, of a pixel, or of a character."""
    shape, classes = MODELS[name][1], CLASSES.get(name, 10)
    if len(shape) == 1:
        return torch.randint(classes, (n, *shape)), torch.randint(classes, (n * shape[0],))
    x = torch.randn(n, *shape)
    return x, torch.randint(classes, (n, *shape[1:])) if name == "unet" else torch.arange(n) % classes
