"""Holds `shanty schema` to an independent validator: every shipped config passes, nearly all mistakes do not.

    pip install jsonschema pyyaml
    python3 tests/config_mistakes/validate.py target/debug/shanty

A mistake that the loader finds (broken YAML, base files, references) never gets as far as a schema and is counted apart.
"""

import glob
import json
import re
import subprocess
import sys

import yaml
from jsonschema import Draft202012Validator

SHANTY = sys.argv[1]


class Core(yaml.SafeLoader):
    """YAML 1.2 core schema: PyYAML's own is 1.1."""


Core.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag.rsplit(":", 1)[1] in ("null", "merge")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for tag, pattern, first in [
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+0123456789."),
]:
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


def resolved(file, overrides=()):
    """The config as shanty resolves it, or None if that fails."""
    command = [SHANTY, "config", file] + [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(command, capture_output=True, text=True)
    return yaml.load(done.stdout, Core) if done.returncode == 0 else None


schema = json.loads(subprocess.check_output([SHANTY, "schema"]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
failed = False

for file in sorted(glob.glob("configs/**/*.yaml", recursive=True)):
    with open(file) as text:
        documents = {"as written": yaml.load(text, Core), "resolved": resolved(file)}
    for what, document in documents.items():
        for error in validator.iter_errors(document):
            failed = True
            print(f"{file} {what}: {'.'.join(map(str, error.absolute_path))}: {error.message[:120]}")

rejected, by_loader, accepted = [], [], []
for file in sorted(glob.glob("tests/config_mistakes/*.yaml")):
    with open(file) as text:
        overrides = [line[len("# args: ") :].strip() for line in text if line.startswith("# args: ")]
    document = resolved(file, overrides)
    if document is None:
        by_loader.append(file)
    elif validator.is_valid(document):
        accepted.append(file)
    else:
        rejected.append(file)

print(f"{len(rejected)} mistakes rejected by the schema, {len(by_loader)} before it, {len(accepted)} accepted:")
print("".join(f"  {file}\n" for file in accepted), end="")
sys.exit(failed or len(rejected) < 50)
