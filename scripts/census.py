"""MMPretrain's own configs, read as they are: how many shanty's check passes, how many train, and what the others lack.

    python scripts/census.py                      # checks every config of the package
    python scripts/census.py --train              # and trains each that passes for three iterations
    python scripts/census.py --only resnet        # those whose name has this in it

The packages (mmpretrain and mmengine, for their configs and the reader of these) go into a virtual environment in the
folder --out, and each config is dumped there by `mmengine.Config.fromfile(...).dump(...)`. shanty itself is --shanty.
"""

import argparse
import collections
import concurrent.futures
import glob
import importlib.machinery
import json
import os
import re
import subprocess
import sys
import types
import venv

PACKAGES = ["mmengine==0.10.7", "mmpretrain==1.2.0", "addict", "yapf", "rich", "termcolor", "pyyaml", "numpy", "platformdirs",
            "packaging"]
CLASSIFIER = "ImageClassifier"
GROUPS = ["classification configs", "models alone, of which there is no run", "others (self-supervised, several modalities)"]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--shanty", default="target/release/shanty")
    args.add_argument("--out", default="work_dirs/census", help="folder of the environment, the dumps and the runs")
    args.add_argument("--train", action="store_true", help="also train three iterations on made-up pictures")
    args.add_argument("--only", default="", help="configs whose name contains this")
    args.add_argument("--jobs", type=int, default=2)
    args.add_argument("--seconds", type=float, default=120, help="for one check; a training has twice as many")
    args.add_argument("--largest", type=float, default=12.0, help="GMACs of a picture above which nothing is trained")
    args = args.parse_args()
    in_environment(args.out)
    configs = os.path.join(args.out, "configs")
    if not os.path.isdir(configs):
        dump(configs)
    census(args, [f for f in sorted(glob.glob(f"{configs}/*.yaml")) if args.only in os.path.basename(f)])


def in_environment(out):
    """Goes on in the environment of the packages, which is made the first time."""
    home = os.path.abspath(os.path.join(out, "venv"))
    if os.path.abspath(sys.prefix) == home:
        return
    python = os.path.join(home, "bin", "python")
    if not os.path.exists(os.path.join(home, "installed")):
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PACKAGES], check=True)
        open(os.path.join(home, "installed"), "w").close()
    os.execv(python, [python, *sys.argv])


def dump(folder):
    """Every config of the package as one YAML file. PyTorch and OpenCV are not needed for it: they are stood in for."""

    class StandIn(types.ModuleType):
        __path__, __version__ = [], "2.1.0"

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ["torch", "torch.nn", "torch.distributed", "torch.cuda", "torch.optim", "torch.utils",
                 "torch.utils.data", "cv2", "matplotlib", "matplotlib.pyplot"]:
        module = StandIn(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    from mmengine.config import Config

    package = glob.glob(os.path.join(sys.prefix, "lib", "python*", "site-packages", "mmpretrain", ".mim", "configs"))[0]
    os.makedirs(folder + ".part", exist_ok=True)
    for path in sorted(glob.glob(f"{package}/*/*.py")):
        if "_base_" not in path and not os.path.basename(path).startswith("_"):
            name = os.path.basename(path)[:-3] + ".yaml"
            try:
                Config.fromfile(path).dump(os.path.join(folder + ".part", name))
            except Exception as why:  # mmengine itself refuses a few
                print(f"mmengine cannot read {name}: {str(why).splitlines()[0][:120]}")
    os.rename(folder + ".part", folder)


def census(args, paths):
    configs = {path: load(path) for path in paths}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        checked = dict(zip(paths, pool.map(lambda path: check(args, path), paths)))
        with open(os.path.join(args.out, "checked.json"), "w") as file:
            json.dump({os.path.basename(path): sorted(kinds) for path, kinds in checked.items()}, file, indent=1)
        groups = collections.defaultdict(dict)
        for path in paths:
            groups[group_of(configs[path])][path] = checked[path]
        for name in GROUPS:
            if groups[name]:
                report(name, groups[name])
        if args.train:
            passed = [p for p in paths if not checked[p] and group_of(configs[p]) == GROUPS[0]]
            tried = dict(zip(passed, pool.map(lambda path: train(args, path, configs[path]), passed)))
            done = collections.Counter(kind for kind, _ in tried.values())
            print(f"\n{done['trained']} of {len(passed)} that pass train three iterations: {dict(done)}")
            for path, (kind, why) in tried.items():
                if kind != "trained":
                    print(f"  {kind}: {os.path.basename(path)}: {why}")


def load(path):
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader.add_constructor("tag:yaml.org,2002:python/tuple", lambda l, node: l.construct_sequence(node, deep=True))
    with open(path) as file:
        return yaml.load(file, loader) or {}


def group_of(config):
    if (config.get("model") or {}).get("type", "").split(".")[-1] != CLASSIFIER:
        return GROUPS[2]
    return GROUPS[0] if any(config.get(f"{mode}_dataloader") for mode in ("train", "val", "test")) else GROUPS[1]


def check(args, path):
    """The kinds of mistakes that the check finds; none if the config is fine."""
    try:
        done = run(args.shanty, "check", "--format", "json", path, timeout=args.seconds)
    except subprocess.TimeoutExpired:
        return {f"the check takes longer than {args.seconds:g} seconds"}
    if done.returncode == 0:
        return set()
    try:
        return {kind_of(d["message"]) for d in json.loads(done.stdout) if d["level"] == "error"}
    except ValueError:
        said = (done.stderr or done.stdout).strip().splitlines()
        return {kind_of(said[0]) if said else f"the check ends with {done.returncode} and says nothing"}


def run(*command, timeout):
    """One thread for each: there are as many of them as jobs."""
    env = {**os.environ, "RAYON_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env)


def kind_of(message):
    """A message without what differs from config to config."""
    message = re.sub(r"[\w./-]*/[\w./-]+", "PATH", message.splitlines()[0])
    return re.sub(r"(?<![`\w])\d[\d.,]*", "N", message)[:150]


def report(name, checked):
    count, alone = collections.Counter(), collections.Counter()
    for kinds in checked.values():
        count.update(kinds)
        if len(kinds) == 1:
            alone.update(kinds)
    fine = sum(not kinds for kinds in checked.values())
    print(f"\n{name}: {fine} of {len(checked)} pass the check")
    print("configs  alone  what is refused (alone: it is all that keeps the config from passing)")
    for kind, n in sorted(count.items(), key=lambda item: (-item[1], item[0])):
        example = next(os.path.basename(p)[:-5] for p, kinds in checked.items() if kind in kinds)
        print(f"{n:7}  {alone[kind]:5}  {kind}  [{example}]")
    steps = steps_to_all(checked)
    if steps:
        print("to mend, in this order, and how many pass then:")
        print("; ".join(f"{kind} {passing}" for kind, passing in steps[:30]))


def steps_to_all(checked):
    """Kinds in the order in which mending them lets most configs pass, each with how many pass by then."""
    open_, steps = {path: set(kinds) for path, kinds in checked.items() if kinds}, []
    while open_:
        fewest = min(map(len, open_.values()))
        kind, _ = collections.Counter(k for kinds in open_.values() if len(kinds) == fewest for k in kinds).most_common(1)[0]
        open_ = {path: kinds - {kind} for path, kinds in open_.items() if kinds != {kind}}
        steps.append((kind, len(checked) - len(open_)))
    return steps


def train(args, path, config):
    """Three iterations on made-up pictures of the config's size, with everything but the data as it is."""
    if "train_dataloader" not in config or not config["train_dataloader"]:
        return "no training", "the config has test data only"
    name = os.path.basename(path)[:-5]
    child = os.path.join(args.out, "children", name + ".json")
    os.makedirs(os.path.dirname(child), exist_ok=True)
    with open(child, "w") as file:
        json.dump(child_of(config, os.path.join(args.out, "runs", name)), file, indent=1)
    try:
        size = run(args.shanty, "summary", "--format", "json", child, timeout=args.seconds)
        if size.returncode == 0:
            macs = max(module["multiply_adds"] or 0 for module in json.loads(size.stdout)["modules"]) / 1e9
            if macs > args.largest:
                return "too large", f"{macs:.0f} GMACs a picture"
        done = run(args.shanty, "train", "--overwrite", "--no-sanity", child, timeout=2 * args.seconds)
    except subprocess.TimeoutExpired:
        return "too slow", f"{2 * args.seconds:g} seconds are not enough"
    if done.returncode == 0:
        return "trained", ""
    said = [line for line in done.stderr.splitlines() if line.startswith("error")] or done.stderr.splitlines()
    return "refused", said[0][:200] if said else f"exit code {done.returncode}"


def child_of(config, work_dir):
    config = json.loads(json.dumps(config))
    loader = config["train_dataloader"]
    tested = (config.get("test_dataloader") or {}).get("dataset", {})
    side = picture_size(loader["dataset"]) or picture_size(tested) or 224
    channels = 1 if str(loader["dataset"].get("type")) in ("MNIST", "FashionMNIST") else 3
    shape = [channels, side, side]
    pictures = {"type": "Synthetic", "n": 64, "shape": shape, "classes": classes_of(config["model"])}
    loader.update(batch_size=2, num_workers=0, dataset=pictures, num_batch_per_epoch=3, persistent_workers=False)
    cfg = config["train_cfg"]
    cfg.update({"max_epochs": 1} if cfg.get("by_epoch", "max_epochs" in cfg) else {"max_iters": 3})
    for key in [key for key in config if key.startswith(("val_", "test_", "tta_"))]:
        del config[key]
    config.setdefault("default_hooks", {})["checkpoint"] = None
    without_downloads(config["model"])
    return {**config, "work_dir": work_dir}


def picture_size(dataset):
    """The side of the square that the pipeline's last crop or resize makes."""
    side = None
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    for step in dataset.get("pipeline") or []:
        for key in ("scale", "crop_size"):
            if step.get("type") not in ("ResizeEdge",) and key in step:
                size = step[key]
                side = max(size) if isinstance(size, list) else size
    return side or {"CIFAR10": 32, "CIFAR100": 32, "MNIST": 32, "FashionMNIST": 32}.get(dataset.get("type"))


def classes_of(model):
    head = model.get("head") or {}
    return head.get("num_classes") or (model.get("backbone") or {}).get("num_classes") or 1000


def without_downloads(node):
    """Initial weights that are an address: three iterations do not need them."""
    if isinstance(node, dict):
        init = node.get("init_cfg")
        if isinstance(init, dict) and str(init.get("checkpoint", "")).startswith("http"):
            del node["init_cfg"]
        node = list(node.values())
    for value in node if isinstance(node, list) else []:
        without_downloads(value)


if __name__ == "__main__":
    main()
