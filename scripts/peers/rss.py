"""Runs a command and prints how its memory grows: resident MiB at tenths of its running time, and the peak (VmHWM).

    python rss.py COMMAND...
"""

import subprocess
import sys
import time


def fields(pid):
    with open(f"/proc/{pid}/status") as f:
        return {k: int(v.split()[0]) / 1024 for k, v in (line.split(":", 1) for line in f) if k in ("VmRSS", "VmHWM")}


process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
samples = []
while process.poll() is None:
    found = fields(process.pid)
    if found:  # empty once the process has ended and waits to be collected
        samples.append(found)
    time.sleep(0.1)
if process.returncode != 0 or len(samples) < 10:
    sys.exit(f"status {process.returncode}, {len(samples)} samples")
tenths = [samples[(len(samples) - 1) * i // 10]["VmRSS"] for i in range(1, 11)]
print(f"resident MiB at tenths of the run: {' '.join(f'{v:.1f}' for v in tenths)}; peak {samples[-1]['VmHWM']:.1f}")
