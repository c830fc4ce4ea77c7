"""All benchmarks, one after another, each in a process of its own: `python -m benchmarks [--smoke]`."""

import subprocess
import sys
import time

NAMES = (
    "requests_against_torch",
    "machine",
    "many_at_once",
    "buffer_sizes",
    "disk_buffer",
    "growth",
    "mechanism",
    "forms",
    "form_cost",
    "analytic_head",
    "whole_runs",
    "queue",
)

if __name__ == "__main__":
    for name in NAMES:
        start = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]).returncode
        if code:
            sys.exit(code)
        print(f"{name}: {time.perf_counter() - start:.0f} seconds\n", flush=True)
