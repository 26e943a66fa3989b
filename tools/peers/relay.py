#!/usr/bin/env python3
"""Reads the records of bench udp through relays, and prints the figures of several rounds as tables.

  relay.py rate FILE                 a record of bench udp search -> its lower bound in datagrams a second
  relay.py load RATE                 nine tenths of a rate
  relay.py cpu PID                   CPU s of a process and its children, - for no process
  relay.py costs FILE BEFORE AFTER   a record of bench udp, and CPU s around it -> "cpu_s_per_million loss_percent"
  relay.py latency FILE              a record of bench udp -> one-way p50 in ns
  relay.py table FILE REFERENCE NOTES
                                     tab-separated: round section name rate cpu loss p50

Needs Python 3.10 and nothing else.
"""

import json
import statistics
import sys
from pathlib import Path

from figures import median
from proxy import cpu


def record(path):
    return json.loads(Path(path).read_text())


def rate(path):
    search = record(path)
    goal = search["goals"][0]
    # A search that ended too early to prove a bound has trials.
    good = [
        trial["load_pps"]
        for trial in search["trials"]
        if trial["load_pps"] and trial["offered"] == "full" and trial["loss_ratio"] <= goal["loss_ratio"]
    ]
    found = goal["lower_pps"] or max(good, default=None)
    if not found:
        raise ValueError("the search found no lower bound")
    return found


def costs(path, before, after):
    run = record(path)["runs"][0]
    received, sent = run["received"]["unique"], run["sent"]["packets"]
    spent = "-" if "-" in (before, after) else (float(after) - float(before)) / received * 1e6
    return f"{spent}\t{(1 - received / sent) * 100}"


def latency(path):
    return record(path)["runs"][0]["latency_ns"]["p50"]


def read(what, *arguments):
    try:
        return what(*arguments)
    except (OSError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        sys.exit(f"its output makes no sense: {error!r}")


def ratio(reference, of, key):
    """The ratios of the reference to a row, by round."""
    both = [(reference[number][key], of[number][key]) for number in of if number in reference]
    ratios = [first / second for first, second in both if first and second]
    if not ratios:
        return "-"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def table(path, reference, notes):
    sections = {}
    for line in Path(path).read_text().splitlines():
        number, section, name, *values = line.split("\t")
        values = [None if value == "-" else float(value) for value in values]
        rows = sections.setdefault(section, {})
        rows.setdefault(name, {})[number] = dict(zip(("rate", "cpu", "loss", "p50"), values))
    for section, rows in sections.items():
        direct = rows.get("direct", {})
        print(f"\n{section}; ratio of {reference} to the row\n")
        width = max(map(len, rows))
        print(f"{'':{width}}  {'rate, kpps':>10}  {'ratio (min to max)':22}  {'CPU s/M':>8}  {'ratio (min to max)':22}  {'loss %':>7}  {'added p50 us':>12}  rounds")
        for name, runs in rows.items():
            pairs = [(run["p50"], direct[number]["p50"]) for number, run in runs.items() if number in direct and name != "direct"]
            added = [through - straight for through, straight in pairs if None not in (through, straight)]
            base = rows.get(reference, {})
            column = lambda key: [run[key] for run in runs.values()]
            print(
                f"{name:{width}}  {median(column('rate'), '{:10.1f}', 1e-3):>10}  {ratio(base, runs, 'rate'):22}"
                f"  {median(column('cpu'), '{:8.3f}'):>8}  {ratio(base, runs, 'cpu'):22}"
                f"  {median(column('loss'), '{:7.3f}'):>7}  {median(added, '{:12.1f}', 1e-3):>12}  {len(runs):>6}"
            )
    print(f"\n{Path(notes).read_text().rstrip()}")


def main():
    match sys.argv[1:]:
        case ["rate", path]:
            print(read(rate, path))
        case ["load", found]:
            print(f"{float(found) * 0.9:.0f}")
        case ["cpu", process]:
            print(process if process == "-" else cpu(process))
        case ["costs", path, before, after]:
            print(read(costs, path, before, after))
        case ["latency", path]:
            print(read(latency, path))
        case ["table", path, reference, notes]:
            table(path, reference, notes)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
