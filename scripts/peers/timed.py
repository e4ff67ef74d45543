"""Runs a command several times and prints what it took: seconds of wall time, and the peak of memory.

    python timed.py [--times 1] [--first TEXT] LABEL COMMAND...

With --first also the seconds until a line with TEXT comes out of the command's stderr. Lines are `LABEL WHAT VALUE`, for spread.py.
All times begin before the process is made.
"""

import argparse
import os
import subprocess
import sys
import time

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("--times", type=int, default=1)
args.add_argument("--first", metavar="TEXT")
args.add_argument("label")
args.add_argument("command", nargs=argparse.REMAINDER)
args = args.parse_args()
for _ in range(args.times):
    start, first, said = time.perf_counter(), None, []
    process = subprocess.Popen(args.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if args.first else subprocess.DEVNULL, text=True)
    if args.first:
        for line in process.stderr:
            said.append(line)
            if first is None and args.first in line:
                first = time.perf_counter() - start
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0 or (args.first and first is None):
        sys.exit(f"{' '.join(args.command)}: status {status}\n{''.join(said[-20:])}")
    if first is not None:
        print(f"{args.label} first_iteration_ms {first * 1e3:.2f}")
    print(f"{args.label} wall_ms {wall * 1e3:.2f}")
    print(f"{args.label} peak_MiB {usage.ru_maxrss / 1024:.1f}", flush=True)
