"""Reads lines `LABEL... VALUE` and prints the median (min-max) of each label, in the order in which they came.

    python spread.py < samples
"""

import statistics
import sys

samples = {}
for line in sys.stdin:
    label, value = line.rsplit(None, 1)
    samples.setdefault(label, []).append(float(value))


def text(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


for label, values in samples.items():
    print(f"{label}: {text(statistics.median(values))} ({text(min(values))}-{text(max(values))}), {len(values)} runs")
