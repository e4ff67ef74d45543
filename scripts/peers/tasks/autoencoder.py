"""An autoencoder: configs/waves_autoencoder.yaml."""

from task import nn, r2, run

run(
    lambda: nn.Sequential(
        nn.Linear(24, 64), nn.Tanh(), nn.Linear(64, 4), nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 24)
    ),
    lambda net, x: nn.functional.mse_loss(net(x["inputs"]), x["inputs"]),
    lambda net, x: {"mse": ((net(x["inputs"]) - x["inputs"]) ** 2).mean(), "r2": r2(net(x["inputs"]), x["inputs"])},
    epochs=20,
    batch=32,
    cosine=True,
)
