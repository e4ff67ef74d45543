"""A class from a table: configs/shops_mlp.yaml."""

from task import nn, run, top1

run(
    lambda: nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 3)),
    lambda net, x: nn.functional.cross_entropy(net(x["inputs"]), x["target"]),
    lambda net, x: {"accuracy/top1": top1(net(x["inputs"]), x["target"])},
    epochs=20,
    batch=32,
)
