#!/usr/bin/env bash
# Makes the pictures of the README from real runs: docs/images/training.svg, the terminal of a training on the embedded digits,
# and report_light.png and report_dark.png, the report of two such trainings.
#
#   scripts/make_pictures.sh [svg] [png]       default: both
#
# Needs python3; for the PNG files also Chromium (CHROMIUM, default: chromium) and Pillow, by which they become small.
# SHANTY is the program (target/release/shanty). Look at what it made before it is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- svg png
SHANTY=$(realpath "${SHANTY:-${CARGO_TARGET_DIR:-target}/release/shanty}") PYTHON=${PYTHON:-python3} CHROMIUM=${CHROMIUM:-chromium}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
out=docs/images
mkdir -p "$out"

# In a folder of its own, so that paths are those of a person who has just begun.
root=$PWD
cp -r configs "$work"
cd "$work"
for picture; do
  case $picture in
  svg)
    "$PYTHON" "$root/scripts/terminal_svg.py" "$root/$out/training.svg" --columns 118 --rows 48 \
      --shown "shanty train configs/digits_lenet.yaml train_cfg.max_epochs=5" -- \
      "$SHANTY" train configs/digits_lenet.yaml train_cfg.max_epochs=5
    ;;
  png)
    for lr in 0.05 0.01; do
      "$SHANTY" -q train configs/digits_lenet.yaml --work-dir "work_dirs/lr_$lr" --set "optim_wrapper.optimizer.lr=$lr" \
        default_hooks.logger.interval=5 'val_evaluator=[{type: Accuracy}, {type: ConfusionMatrix}]' >/dev/null
    done
    "$SHANTY" report work_dirs/lr_0.05 work_dirs/lr_0.01 -o report.html >/dev/null
    for mode in light dark; do
      "$CHROMIUM" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/chromium" \
        --blink-settings=preferredColorScheme=$([ $mode = dark ] && echo 0 || echo 1) --window-size=1100,900 \
        --virtual-time-budget=4000 --run-all-compositor-stages-before-draw --screenshot="$work/$mode.png" \
        "file://$work/report.html" 2>/dev/null
      "$PYTHON" - "$work/$mode.png" "$root/$out/report_$mode.png" <<'END'
import sys
from PIL import Image

Image.open(sys.argv[1]).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(sys.argv[2], optimize=True)
END
    done
    ;;
  *) echo "svg or png, not $picture" >&2 && exit 2 ;;
  esac
done
ls -l "$root/$out"
