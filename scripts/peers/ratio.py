"""Reads lines `ROUND WHO RATE MIB`, WHO being shanty or a mode of PyTorch, with `_bf16` behind it in mixed precision; MIB the peak of memory.

    python ratio.py LABEL < samples             prints shanty's ratios to the best modes that were in every round, and where both
                                                precisions were measured the row of the table in docs/performance.md
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


def ratio(own, peers):
    """The ratios of the rounds, and PyTorch's best mode; None if a side has none."""
    if own and peers:
        a, b = best(own), best(peers)
        return spread([x / y for x, y in zip(own[a], peers[b], strict=True)], 2), b


sides = {"f32": [of_precision(of, False) for of in (ours, full)], "bf16": [of_precision(of, True) for of in (ours, full)]}
if sides["bf16"][1]:
    sides["best of both"] = [ours, full]
ratios = {name: found for name, side in sides.items() if (found := ratio(*side))}
shown = ", ".join(f"{who} {spread(v, 1)}" for who, v in ours.items())
others = ", ".join(f"{who} {spread(v, 1)}" + ("" if who in full else f" in {len(v)} rounds") for who, v in rates.items())
bests = [best(peers) for bf16 in (False, True) if (peers := of_precision(full, bf16))]
peaks = ", ".join(f"{name} {statistics.median(memory[who]):.0f} MiB" for name, who in [*((w, w) for w in ours), *((f"torch {w}", w) for w in bests)])
compared = "; ".join(f"{name} {found} to torch {peer}" for name, (found, peer) in ratios.items())
print(f"{sys.argv[1]}: {compared}; {shown} images/s; torch {others}; peak memory {peaks}", flush=True)


def row():
    """Rates, PyTorch's best, how many times faster the better precision is and f32 is, and the memory in MiB."""
    rate = lambda v: f"{statistics.median(v):,.{0 if statistics.median(v) > 1000 else 1}f}"
    (both, peer), (f32, _) = ratios["best of both"], ratios["f32"]
    mode = {"compile": "compiled", "channels_last": "channels last", "compile_channels_last": "compiled, channels last"}
    name = peer.removesuffix("_bf16")
    theirs = f"{rate(full[peer])}, {mode.get(name, name)}, {'bf16' if is_bf16(peer) else 'f32'}"
    peak = ", ".join(f"{statistics.median(memory[who]):.0f}" for who in (*ours, bests[-1]))
    return [sys.argv[1], *map(rate, ours.values()), theirs, *(text.replace("-", "–") for text in (both, f32)), peak]


if len(ratios) == 3:
    print("|", " | ".join(row()), "|", flush=True)
