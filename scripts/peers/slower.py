"""Reads lines `SIDE<tab>NAME<tab>MILLISECONDS`, SIDE being old or new, in rounds that have one of each; says what is slower now.

    python slower.py [--limit 5] < samples

A figure is slower if the median of its pairs' ratios, less the noise, is more than LIMIT percent above 1; faster the other way round. The noise is half the
distance between the quartiles of the ratios. Exit code: 0 nothing is slower, 1 something is, 2 nothing was measured.
"""

import argparse
import statistics
import sys

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("--limit", type=float, default=5.0, metavar="PERCENT")
limit = args.parse_args().limit / 100

sides = {"old": {}, "new": {}}
for line in sys.stdin:
    side, name, milliseconds = line.rstrip("\n").split("\t")
    sides[side].setdefault(name, []).append(float(milliseconds))
both = [name for name in sides["old"] if name in sides["new"]]
if not both:
    print("no figure was measured of both sides", file=sys.stderr)
    sys.exit(2)


def compared(name):
    """The median of the ratios, and its noise."""
    # Times of a microsecond are written with three digits behind the point.
    ratios = [(new + 5e-4) / (old + 5e-4) for old, new in zip(sides["old"][name], sides["new"][name])]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else (ratios[0],) * 3
    return statistics.median(ratios), (high - low) / 2


found = {name: compared(name) for name in both}
slower = [name for name, (ratio, noise) in found.items() if ratio - noise > 1 + limit]
faster = [name for name, (ratio, noise) in found.items() if ratio + noise < 1 - limit]


def lines(title, names, sign):
    if names:
        print(f"{title}, by more than {100 * limit:g} % beyond the noise:")
    for name in sorted(names, key=lambda name: -sign * found[name][0]):
        (ratio, noise), old, new = found[name], statistics.median(sides["old"][name]), statistics.median(sides["new"][name])
        print(f"  {name:32} {100 * (ratio - 1):+6.1f} % (noise {100 * noise:.1f} %)   {old:.3f} -> {new:.3f} ms")


lines("faster", faster, -1)
lines("SLOWER", slower, 1)
for side, other in (("old", "new"), ("new", "old")):
    if alone := [name for name in sides[side] if name not in sides[other]]:
        print(f"only in the {side} one: {', '.join(alone)}")
noise = statistics.median(noise for _, noise in found.values())
print(f"{len(found)} figures, {len(slower)} slower, {len(faster)} faster; median of all ratios {statistics.median(r for r, _ in found.values()):.3f}, "
      f"median noise {100 * noise:.1f} %")
sys.exit(1 if slower else 0)
