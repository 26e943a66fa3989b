#!/usr/bin/env python3
"""Compares the search of `bench udp search` with MLRsearch 1.2.1 of FD.io CSIT, on the same simulated paths.

Needs `pip install MLRsearch==1.2.1`; without it the comparison is skipped. Prints a Markdown table of medians over SEEDS (default 21)
seeds. Exits with 1 if a conditional throughput differs by more than 1 % and a quarter of the noise from that of MLRsearch, or by more than
1 % and the noise from that of the path.
"""

import os
import statistics
import subprocess
import sys

try:
    from MLRsearch import (
        AbstractMeasurer, Config, MeasurementResult, MultipleLossRatioSearch, SearchGoal,
    )
except ImportError:
    print("skipped: the Python package MLRsearch is not installed (pip install MLRsearch==1.2.1)")
    sys.exit(0)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SEEDS = int(os.environ.get("SEEDS", "21"))
MASK = (1 << 64) - 1

# Name, capacity in datagrams a second, noise, queue in datagrams, loss, goals.
PATHS = [
    ("100,000/s", 100_000, 0.0, 0, 0.0, (0.0, 0.005)),
    ("1,234,567/s", 1_234_567, 0.0, 0, 0.0, (0.0, 0.005)),
    ("2,345/s", 2_345, 0.0, 0, 0.0, (0.0, 0.02)),
    ("100,000/s ± 2 %", 100_000, 0.02, 0, 0.0, (0.0, 0.005)),
    ("100,000/s ± 5 %", 100_000, 0.05, 0, 0.0, (0.0, 0.005)),
    ("100,000/s, queue of 10 ms", 100_000, 0.0, 1_000, 0.0, (0.0, 0.005)),
    ("100,000/s, loses 0.2 %", 100_000, 0.0, 0, 0.002, (0.005, 0.02)),
]


class Path(AbstractMeasurer):
    """As in `src/main.rs`."""

    def __init__(self, capacity, noise, queue, loss, seed):
        self.capacity, self.noise, self.queue, self.loss, self.state = capacity, noise, queue, loss, seed
        self.trials, self.seconds = 0, 0.0

    def random(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        mixed = self.state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)

    def measure(self, intended_duration, intended_load):
        self.trials += 1
        self.seconds += intended_duration
        capacity = self.capacity * (1.0 + self.noise * (2.0 * self.random() - 1.0))
        sent = max(1, int(intended_load * intended_duration))
        through = min(sent, int(capacity * intended_duration + self.queue))
        through = int(through * (1.0 - self.loss))
        return MeasurementResult(
            intended_duration=intended_duration,
            intended_load=intended_load,
            offered_count=sent,
            forwarding_count=through,
        )


def library(path, seed):
    _, capacity, noise, queue, loss, ratios = path
    goals = [
        SearchGoal(
            loss_ratio=ratio, exceed_ratio=0.5, relative_width=0.005, initial_trial_duration=0.25,
            final_trial_duration=1.0, duration_sum=5.0, preceding_targets=2, expansion_coefficient=2,
        )
        for ratio in ratios
    ]
    config = Config(goals=goals, min_load=10.0, max_load=1e7, search_duration_max=1e9, warmup_duration=None)
    measurer = Path(capacity, noise, queue, loss, seed)
    found = MultipleLossRatioSearch(config=config).search(measurer=measurer, debug=lambda _: None)
    results = []
    for goal in goals:
        result = found[goal]
        bounds = (result.relevant_lower_bound, result.relevant_upper_bound, result.conditional_throughput)
        results.append([float(bound) for bound in bounds])
    return results, measurer.trials, measurer.seconds


def ours(program, path, seed):
    _, *numbers, ratios = path
    words = [program, *map(str, numbers), str(seed), *map(str, ratios)]
    *goals, last = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    trials, seconds = last.split()
    return [[float(word) for word in goal.split()[1:]] for goal in goals], int(trials), float(seconds)


def medians(runs):
    results, trials, seconds = zip(*runs)
    goals = [[statistics.median(values) for values in zip(*of_goal)] for of_goal in zip(*results)]
    return goals, statistics.median(trials), statistics.median(seconds)


def main():
    build = ["cargo", "build", "--quiet", "--locked", "--package", "search", "--manifest-path", os.path.join(ROOT, "Cargo.toml")]
    subprocess.run(build, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    program = os.path.join(target, "debug", "search")
    print("| path | goal | `bench udp search`: bounds, throughput | MLRsearch 1.2.1 | ratio | trials | seconds |")
    print("|---|---|---|---|---|---|---|")
    wrong = []
    for path in PATHS:
        name, capacity, noise, queue, loss, ratios = path
        of_ours = medians([ours(program, path, seed) for seed in range(SEEDS)])
        of_library = medians([library(path, seed) for seed in range(SEEDS)])
        for goal, one, other in zip(ratios, of_ours[0], of_library[0]):
            ratio = one[2] / other[2]
            # Above capacity, the path forwards what it can and the queue.
            truth = (capacity + queue) * (1.0 - loss)
            shown = [f"{low:,.0f} to {high:,.0f}, {throughput:,.0f}" for low, high, throughput in (one, other)]
            print(
                f"| {name} | {goal * 100:g} % | {shown[0]} | {shown[1]} | {ratio:.4f} "
                f"| {of_ours[1]:.0f}, {of_library[1]:.0f} | {of_ours[2]:.1f}, {of_library[2]:.1f} |"
            )
            if abs(ratio - 1.0) > 0.01 + noise / 4 or abs(one[2] / truth - 1.0) > noise + 0.01:
                wrong.append(f"{name}, goal {goal}")
    if wrong:
        sys.exit("FAILED: " + "; ".join(wrong))


main()
