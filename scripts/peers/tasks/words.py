"""Text by characters: configs/words_chars.yaml."""

from task import nn, run, top1

run(
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(255, 32), nn.ReLU(), nn.Linear(32, 3)),
    lambda net, x: nn.functional.cross_entropy(net(x["inputs"]), x["target"]),
    lambda net, x: {"accuracy/top1": top1(net(x["inputs"]), x["target"])},
    epochs=10,
    batch=32,
)
