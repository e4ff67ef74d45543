"""Reads lines `ROUND WHO RATE MIB`, WHO being shanty or a mode of PyTorch, MIB the peak of memory.

    python ratio.py LABEL < samples             prints shanty's ratio to the best mode that was in every round
    python ratio.py --contenders < samples      prints the modes whose best rate is at least 80 % of the best of all
"""

import statistics
import sys

rates, memory = {}, {}
for line in sys.stdin:
    _, who, rate, mib = line.split()
    rates.setdefault(who, []).append(float(rate))
    memory.setdefault(who, []).append(int(mib))
ours = rates.pop("shanty")
if sys.argv[1] == "--contenders":
    best = max(max(v) for v in rates.values())
    print(*(who for who, v in rates.items() if max(v) >= 0.8 * best))
    sys.exit()
full = [who for who, v in rates.items() if len(v) == len(ours)]
best = max(full, key=lambda who: statistics.median(rates[who]))
ratios = [a / b for a, b in zip(ours, rates[best], strict=True)]


def spread(v, digits):
    return f"{statistics.median(v):.{digits}f} ({min(v):.{digits}f}-{max(v):.{digits}f})"


others = ", ".join(f"{who} {spread(v, 1)}" + ("" if len(v) == len(ours) else f" in {len(v)} rounds") for who, v in rates.items())
print(f"{sys.argv[1]}: ratio {spread(ratios, 2)} to torch {best}; shanty {spread(ours, 1)} images/s, torch {others}; "
      f"peak memory {statistics.median(memory['shanty']):.0f} MiB, torch {best} {statistics.median(memory[best]):.0f} MiB", flush=True)
