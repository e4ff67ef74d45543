"""Several labels at once: configs/weather_labels.yaml."""

from task import f1, nn, run

run(
    lambda: nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3)),
    lambda net, x: nn.functional.binary_cross_entropy_with_logits(net(x["inputs"]), x["target"]),
    lambda net, x: {"multi-label/f1-score": f1(net(x["inputs"]) >= 0, x["target"] == 1)},
    epochs=30,
    batch=32,
)
