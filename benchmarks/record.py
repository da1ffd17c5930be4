"""Two rates to one line of JSON: what a benchmark measured, where and when.

Called by every benchmark; the lines are appended to files in `benchmarks/results`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch

from model.network.inputs import Colours
from tasks.launch import environment_of

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"

LOAD = os.getloadavg()[0]
"""Mean number of processes that ran or waited in the minute before the benchmark: other work, which slows it down."""

COLOURS = Colours(mean=(124, 116.5, 104), deviations=(5, 19, 68), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
"""About ImageNet's; the values do not change the time."""


def run_as(worker: str) -> None:
    """Let this process, and so both sides, have the environment of a worker: begin again with it if it is not there yet."""
    missing = environment_of(worker).items() - os.environ.items()
    if missing:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **dict(missing)})


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Call each side once a round, in turn, and return the median of each side's rates.

    Other work on the machine then slows down both sides alike. A first round warms both up and is not counted.
    """
    print(f"  load before the start {LOAD:.1f} on {_num_cores()} cores; above 0.5, other work disturbs the rates", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, measure in sides.items():
            rate = measure()
            print(f"  {f'round {number}' if number else 'warm-up'}: {name} {rate:,.1f}", flush=True)
            if number:
                rates[name].append(rate)
    return {name: median(values) for name, values in rates.items()}


def record(benchmark: str, name: str, ours: float, theirs: float, target: float | None, unit: str) -> None:
    """Append the ratio of two rates to `results/BENCHMARK.jsonl`; print it, and whether it meets the target."""
    line = {
        "name": name,
        "ratio": ours / theirs,
        "target": target,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "machine": machine(),
        "load": LOAD,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
    }
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{benchmark}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    verdict = "no target" if target is None else f"target {target:.2f}, {'met' if ours >= target * theirs else 'NOT met'}"
    print(f"{name}: ours {ours:,.1f}, theirs {theirs:,.1f} {unit}; ratio {ours / theirs:.2f}, {verdict}", flush=True)


def machine() -> str:
    """Return the processor, the number of cores that this process may use, and the GPU if there is one."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown CPU")
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {_num_cores()} cores{gpu}"


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))


def commit() -> str:
    """Return the name that `git describe` gives the code; it ends in `-dirty` if files were changed since the commit."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
