#!/usr/bin/env python3
"""Runs a command in a terminal of its own and writes what was seen there as an SVG that moves, in light and dark.

    scripts/terminal_svg.py OUT.svg [--columns 100] [--rows 30] [--seconds 8] [--shown TEXT] -- COMMAND...

The bytes of the terminal are what a person gets: this reads them as a terminal does (lines, colours, a bar that is drawn
again and again), and nothing is added but the prompt with TEXT. A line that stays is in the file once.
"""
import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from html import escape

CHAR, LINE, MARGIN = 8, 18, 14
# Colours of the codes 30 to 37 (and 90 to 97) on a light and on a dark ground.
PALETTE = {
    "light": ["#24292f", "#cf222e", "#116329", "#7d4e00", "#0550ae", "#8250df", "#1b7c83", "#57606a"],
    "dark": ["#8b949e", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#c9d1d9"],
}
GROUND = {"light": ("#f6f8fa", "#1f2328", "#d0d7de"), "dark": ("#0d1117", "#e6edf3", "#30363d")}
# A letter, the end of a line, or a sequence: `ESC [ 2 K`.
TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\s\S]")


class Screen:
    """Letters with their styles, as far as a log and a bar need it."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines = [[] for _ in range(rows)]
        self.row = self.column = 0
        self.style = ""

    def feed(self, text):
        for found in TOKEN.finditer(text):
            token, (numbers, letter) = found.group(), found.groups()
            if letter:
                self.control([int(n) for n in numbers.split(";") if n.isdigit()], letter)
            elif token == "\n":
                self.down()
            elif token == "\r":
                self.column = 0
            elif token == "\b":
                self.column = max(self.column - 1, 0)
            elif len(token) == 1 and token >= " ":
                self.put(token)

    def down(self):
        self.row += 1
        if self.row == self.rows:
            self.lines = self.lines[1:] + [[]]
            self.row -= 1

    def put(self, letter):
        if self.column == self.columns:
            self.column = 0
            self.down()
        line = self.lines[self.row]
        line.extend([(" ", "")] * (self.column + 1 - len(line)))
        line[self.column] = (letter, self.style)
        self.column += 1

    def control(self, numbers, letter):
        first = numbers[0] if numbers else 0
        line = self.lines[self.row]
        if letter == "A":
            self.row = max(self.row - max(first, 1), 0)
        elif letter == "B":
            self.row = min(self.row + max(first, 1), self.rows - 1)
        elif letter == "C":
            self.column = min(self.column + max(first, 1), self.columns - 1)
        elif letter == "D":
            self.column = max(self.column - max(first, 1), 0)
        elif letter == "G":
            self.column = max(first, 1) - 1
        elif letter == "K" and first in (0, 2):
            del line[self.column if first == 0 else 0 :]
        elif letter == "J" and first == 0:
            del line[self.column :]
            self.lines[self.row + 1 :] = [[] for _ in self.lines[self.row + 1 :]]
        elif letter == "m":
            self.style = style(numbers or [0], self.style)

    def seen(self):
        """Each line as runs of one style."""
        shown = []
        for line in self.lines:
            runs = []
            for letter, kind in line:
                if runs and runs[-1][1] == kind:
                    runs[-1][0] += letter
                else:
                    runs.append([letter, kind])
            shown.append(tuple((text, kind) for text, kind in runs) if any(c != " " for c, _ in line) else ())
        return shown


def style(numbers, old):
    kinds = set(old.split())
    for number in numbers:
        if number == 0:
            kinds = set()
        elif number in (1, 2):
            kinds.add("bold" if number == 1 else "dim")
        elif number == 22:
            kinds -= {"bold", "dim"}
        elif 30 <= number <= 37 or 90 <= number <= 97:
            kinds = {kind for kind in kinds if not kind.startswith("c")} | {f"c{number % 10}"}
        elif number == 39:
            kinds = {kind for kind in kinds if not kind.startswith("c")}
    return " ".join(sorted(kinds))


def recorded(command, columns, rows):
    """What the command wrote, with the seconds at which it came."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm-256color"})
    os.close(slave)
    began, pieces = time.monotonic(), []
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # the other side was closed
            break
        if not piece:
            break
        pieces.append((time.monotonic() - began, piece))
    if child.wait() != 0:
        sys.exit(f"{command} ended with {child.returncode}:\n" + b"".join(p for _, p in pieces).decode(errors="replace"))
    return pieces


def frames(pieces, screen, step):
    """The screen whenever it has changed, at most once in `step` seconds."""
    text, shown = b"", [(0.0, screen.seen())]
    for at, (when, piece) in enumerate(pieces):
        text += piece
        whole = text.decode(errors="ignore") if text[-1] < 0x80 else None
        if whole is None:
            continue  # in the midst of a letter
        screen.feed(whole)
        text = b""
        is_last = at + 1 == len(pieces)
        if is_last or pieces[at + 1][0] // step > when // step:
            if screen.seen() != shown[-1][1]:
                shown.append((when, screen.seen()))
    return shown


def kept(text):
    """The text with all its spaces, of which viewers make one where several follow each other."""
    return escape(text).replace(" ", "\u00a0")


def svg(shown, columns, rows, seconds, hold):
    """One element a line and place, which is there as long as it was seen."""
    length = max(shown[-1][0], 0.1)
    total = seconds + hold
    at = [when / length * seconds / total * 100 for when, _ in shown] + [100.0]
    lives = []
    for row in range(rows):
        begin = 0
        for frame in range(1, len(shown) + 1):
            if frame == len(shown) or shown[frame][1][row] != shown[begin][1][row]:
                if shown[begin][1][row]:
                    lives.append((row, shown[begin][1][row], begin, frame))
                begin = frame
    used = 1 + max(row for row, _, _, _ in lives)
    width, height = columns * CHAR + 2 * MARGIN, used * LINE + 2 * MARGIN
    css, body = [], []
    for number, (row, runs, begin, end) in enumerate(lives):
        stays = end == len(shown)
        marks = [(0.0, 0)] if begin else []
        marks += [(at[begin], 1)] + ([] if stays else [(at[end], 0)])
        moves = len(marks) > 1
        if moves:
            keys = "".join(f"{when:.5g}%{{opacity:{seen}}}" for when, seen in marks)
            css.append(f"@keyframes k{number}{{{keys}}}")
        letters = sum(len(text) for text, _ in runs)
        spans = "".join(
            f'<tspan class="{kind}">{kept(text)}</tspan>' if kind else kept(text) for text, kind in runs
        )
        name = f' style="animation-name:k{number}"' if moves else ""
        hidden = "" if stays else ' class="gone"'
        y = MARGIN + row * LINE + 13
        body.append(f'<text{hidden}{name} x="{MARGIN}" y="{y}" textLength="{letters * CHAR}">{spans}</text>')
    colours = {
        mode: f"svg{{--g:{GROUND[mode][0]};--t:{GROUND[mode][1]};--b:{GROUND[mode][2]}}}"
        + "".join(f".c{i}{{fill:{colour}}}" for i, colour in enumerate(PALETTE[mode]))
        for mode in PALETTE
    }
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">\n<style>\n'
        f"{colours['light']}\n@media (prefers-color-scheme: dark){{{colours['dark']}}}\n"
        "rect{fill:var(--g);stroke:var(--b)}\n"
        "text{fill:var(--t);font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        f"animation:{total}s steps(1,end) infinite}}\n"
        ".gone{opacity:0}.bold{font-weight:bold}.dim{opacity:.6}\n"
        "@media (prefers-reduced-motion: reduce){text{animation:none}}\n"
        + "\n".join(css)
        + f'\n</style>\n<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=8, help="how long the picture moves")
    parser.add_argument("--hold", type=float, default=5, help="how long its end stays")
    parser.add_argument("--shown", help="the command as the prompt shows it")
    if "--" not in sys.argv:
        parser.error("the command stands behind --")
    end = sys.argv.index("--")
    args, command = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    pieces = recorded(command, args.columns, args.rows)
    screen = Screen(args.columns, args.rows)
    screen.feed(f"\x1b[32m$\x1b[0m {args.shown or ' '.join(command)}\r\n")
    step = max(pieces[-1][0] / 50, 0.1)
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(svg(frames(pieces, screen, step), args.columns, args.rows, args.seconds, args.hold))


if __name__ == "__main__":
    main()
