"""Two heads on one network, with weights: configs/digits_two_heads.yaml."""

from task import f1, nn, run, top1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.digit, self.odd = nn.Linear(64, 10), nn.Linear(64, 1)

    def forward(self, x):
        x = self.network(x)
        return self.digit(x), self.odd(x)


def loss(net, x):
    digit, odd = net(x["inputs"])
    parity = x["parity"].float().unsqueeze(1)
    return nn.functional.cross_entropy(digit, x["target"]) + 0.5 * nn.functional.binary_cross_entropy_with_logits(odd, parity)


def figures(net, x):
    digit, odd = net(x["inputs"])
    return {"accuracy/top1": top1(digit, x["target"]), "multi-label/f1-score": f1(odd >= 0, x["parity"].unsqueeze(1) == 1)}


run(Net, loss, figures, epochs=10, batch=32)
