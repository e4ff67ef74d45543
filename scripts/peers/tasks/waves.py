"""A sequence of numbers to a number: configs/waves_mlp.yaml."""

from task import nn, r2, run

run(
    lambda: nn.Sequential(nn.Linear(24, 64), nn.Tanh(), nn.Linear(64, 1)),
    lambda net, x: nn.functional.mse_loss(net(x["inputs"]), x["target"]),
    lambda net, x: {"mae": (net(x["inputs"]) - x["target"]).abs().mean(), "r2": r2(net(x["inputs"]), x["target"])},
    epochs=20,
    batch=32,
    cosine=True,
)
