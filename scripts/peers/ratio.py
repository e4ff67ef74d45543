"""Reads lines `ROUND WHO RATE` and prints shanty's ratio to the best of the others.

    python ratio.py LABEL < samples
"""

import statistics
import sys

rates = {}
for line in sys.stdin:
    _, who, rate = line.split()
    rates.setdefault(who, []).append(float(rate))
ours = rates.pop("shanty")
best = max(rates, key=lambda who: statistics.median(rates[who]))
ratios = [a / b for a, b in zip(ours, rates[best], strict=True)]


def spread(v, digits):
    return f"{statistics.median(v):.{digits}f} ({min(v):.{digits}f}-{max(v):.{digits}f})"


others = ", ".join(f"{who} {spread(v, 1)}" for who, v in rates.items())
print(f"{sys.argv[1]}: ratio {spread(ratios, 2)} to torch {best}; shanty {spread(ours, 1)} images/s, torch {others}", flush=True)
