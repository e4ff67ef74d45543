#!/bin/sh
# Fills the corpus from the shipped configs and the collection of mistakes.
cd "$(dirname "$0")" || exit 1
mkdir -p corpus/config
for file in $(find ../configs ../tests/config_mistakes -name '*.yaml'); do
    sed 's/^# args: /#!/' "$file" > "corpus/config/$(echo "$file" | tr -c 'a-z0-9\n' _)"
done
