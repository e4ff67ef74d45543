"""Reads lines `ROUND WHO RATE MIB`, WHO being shanty or a mode of PyTorch, with `_bf16` behind it in mixed precision; MIB the peak of memory.

    python ratio.py LABEL < samples             prints shanty's ratios to the best modes that were in every round
    python ratio.py --contenders < samples      prints the modes whose best rate is at least 80 % of the best of their precision

Three ratios: single precision against single precision, bfloat16 against bfloat16, and the better one of shanty's against the best of all.
"""

import statistics
import sys

rates, memory = {}, {}
for line in sys.stdin:
    _, who, rate, mib = line.split()
    rates.setdefault(who, []).append(float(rate))
    memory.setdefault(who, []).append(int(mib))
ours = {who: rates.pop(who) for who in ("shanty", "shanty_bf16") if who in rates}
is_bf16 = lambda who: who.endswith("_bf16")
of_precision = lambda all_, bf16: {who: v for who, v in all_.items() if is_bf16(who) == bf16}
if sys.argv[1] == "--contenders":
    for bf16 in (False, True):
        peers = of_precision(rates, bf16)
        best = max((max(v) for v in peers.values()), default=0)
        print(*(who for who, v in peers.items() if max(v) >= 0.8 * best))
    sys.exit()
rounds = len(next(iter(ours.values())))
full = {who: v for who, v in rates.items() if len(v) == rounds}


def best(of):
    return max(of, key=lambda who: statistics.median(of[who]))


def spread(v, digits):
    return f"{statistics.median(v):.{digits}f} ({min(v):.{digits}f}-{max(v):.{digits}f})"


def ratio(name, own, peers):
    if not own or not peers:
        return []
    a, b = best(own), best(peers)
    return [f"{name} {spread([x / y for x, y in zip(own[a], peers[b], strict=True)], 2)} to torch {b}"]


ratios = [text for name, bf16 in (("f32", False), ("bf16", True)) for text in ratio(name, of_precision(ours, bf16), of_precision(full, bf16))]
if any(map(is_bf16, full)):
    ratios += ratio("best of both", ours, full)
shown = ", ".join(f"{who} {spread(v, 1)}" for who, v in ours.items())
others = ", ".join(f"{who} {spread(v, 1)}" + ("" if who in full else f" in {len(v)} rounds") for who, v in rates.items())
bests = [best(peers) for bf16 in (False, True) if (peers := of_precision(full, bf16))]
peaks = ", ".join(f"{name} {statistics.median(memory[who]):.0f} MiB" for name, who in [*((w, w) for w in ours), *((f"torch {w}", w) for w in bests)])
print(f"{sys.argv[1]}: {'; '.join(ratios)}; {shown} images/s; torch {others}; peak memory {peaks}", flush=True)
