"""House prices from a table: configs/houses_mlp.yaml."""

from task import nn, r2, run

run(
    lambda: nn.Sequential(nn.Linear(9, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)),
    lambda net, x: nn.functional.mse_loss(net(x["inputs"]), x["target"]),
    lambda net, x: {"mae": (net(x["inputs"]) - x["target"]).abs().mean(), "r2": r2(net(x["inputs"]), x["target"])},
    epochs=60,
    batch=32,
    cosine=True,
)
