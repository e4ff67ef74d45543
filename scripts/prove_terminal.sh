#!/usr/bin/env bash
# Trains in a real terminal (tmux) of 80 and of 200 columns, makes it narrower and wider while the bar is drawn, and takes it away
# under another training: every line of the log file stands on the screen unbroken, and the run that lost its terminal has saved and
# is gone on with.
#
#   scripts/prove_terminal.sh                  needs tmux and python3
#
# SHANTY is the program (target/release/shanty).
set -euo pipefail
cd "$(dirname "$0")/.."
SHANTY=$(realpath "${SHANTY:-${CARGO_TARGET_DIR:-target}/release/shanty}")
work=$(mktemp -d)
tmux() { command tmux -L "shanty_$$" "$@"; }
trap 'tmux kill-server 2>/dev/null || true; rm -rf "$work"' EXIT

# Starts a training of so many epochs in a terminal of this width; its end is a file.
begin() { # columns, name, epochs
  tmux new-session -d -s "$2" -x "$1" -y 30 -c "$PWD" "'$SHANTY' train configs/digits_lenet.yaml --work-dir '$work/$2' --no-validate \
train_cfg.max_epochs=$3 default_hooks.logger.interval=5 default_hooks.checkpoint.save_best=null; echo \$? >'$work/$2.done'"
}
# The first line of a training that logs.
logged() {
  until grep -qs "Epoch(train)" "$work/$1"/*/*.log; do
    [ ! -e "$work/$1.done" ] || { tmux capture-pane -p -t "$1" && exit 1; }
    sleep 0.2
  done
}

# A server of its own, which outlives its sessions, and keeps what was on the screen of a program that has ended.
tmux -f /dev/null new-session -d -s keeper "sleep 600"
tmux set-option -g history-limit 20000 \; set-option -g remain-on-exit on
for columns in 80 200; do
  name=c$columns
  begin $columns $name 12
  logged $name
  bar=no
  for width in 60 120 $columns; do
    sleep 0.5
    tmux resize-window -t $name -x "$width" -y 30
    sleep 0.3
    ! tmux capture-pane -p -t $name | grep -q "iterations," || bar=yes
  done
  until [ -e "$work/$name.done" ]; do sleep 0.2; done
  [ "$(cat "$work/$name.done")" = 0 ]
  tmux resize-window -t $name -x 250 -y 30
  # -J joins what the terminal has wrapped.
  tmux capture-pane -p -J -S - -t $name >"$work/$name.screen"
  python3 - "$work/$name.screen" "$work/$name"/*/*.log "$bar" <<'END'
import sys

screen = open(sys.argv[1], encoding="utf-8").read()
joined = screen.replace("\n", "")
lines = [line.split("Epoch(train)")[1].rstrip() for line in open(sys.argv[2], encoding="utf-8") if "Epoch(train)" in line]
# A line that was wrapped where it was narrow may be one of two after the terminal was made wide.
broken = [line for line in lines if line.replace(" ", "") not in joined.replace(" ", "")]
assert lines and not broken, (len(broken), len(lines), broken[:2])
assert sys.argv[3] == "yes", "no bar was seen"
assert "finished after" in screen
print(f"{sys.argv[1].rsplit('/', 1)[1]}: {len(lines)} lines of the log stand on the screen, and a bar was drawn")
END
done

begin 100 gone 1000
logged gone
tmux kill-session -t gone
while pgrep -f -- "--work-dir $work/gone" >/dev/null; do sleep 0.2; done
grep -q "SIGHUP: saving and leaving" "$work/gone"/*/*.log
last=$(cat "$work/gone/last_checkpoint")
"$SHANTY" -q train configs/digits_lenet.yaml --work-dir "$work/gone" --no-validate --resume train_cfg.max_epochs=1000 --max-time 1 \
  default_hooks.logger.interval=5 default_hooks.checkpoint.save_best=null >/dev/null || [ $? = 75 ]
echo "the terminal went away: saved $last, and gone on with"
