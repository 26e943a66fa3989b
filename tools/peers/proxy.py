#!/usr/bin/env python3
"""What iperf3 and wrk say of a proxy, and the figures of several rounds as a table.

  proxy.py cpu PID                     CPU s that a process and its children have taken, - for no process
  proxy.py bulk FILE BEFORE AFTER      iperf3 -J -> "rate cpu p99", - for unknown; rate in GB/s, CPU in s per GB
  proxy.py requests FILE BEFORE AFTER  wrk --latency -> the same; rate in requests/s, CPU in µs per request, p99 in ms
  proxy.py table FILE NOTES            tab-separated: round job threads name rate cpu p99

Needs Python 3.10 and nothing else.
"""

import json
import os
import re
import statistics
import sys
from pathlib import Path

JOBS = {
    "bulk1": "bulk, one stream",
    "bulk4": "bulk, four streams",
    "kept": "requests on 32 kept connections",
    "close": "connect, request, close; 32 at once",
}
MILLI = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def cpu(process):
    """Processes that ended count by their parent, which waited for them."""
    if process == "-":
        return None
    parents, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split() if entry.name.isdigit() else None
        except OSError:
            continue
        if fields:
            parents.setdefault(fields[1], []).append(entry.name)
            ticks[entry.name] = sum(map(int, fields[11:15]))
    total, family = 0, [process]
    while family:
        member = family.pop()
        total += ticks.get(member, 0)
        family += parents.get(member, [])
    return total / os.sysconf("SC_CLK_TCK")


def spent(before, after):
    return None if "-" in (before, after) else float(after) - float(before)


def bulk(text, taken):
    got = json.loads(text)["end"]["sum_received"]
    gigabytes = got["bytes"] / 1e9
    return gigabytes / got["seconds"], taken and taken / gigabytes, None


def requests(text, taken):
    if errors := re.search(r"(Socket errors: .*|Non-2xx .*)", text):
        sys.exit(errors.group(1))
    count = int(re.search(r"(\d+) requests in", text).group(1))
    rate = float(re.search(r"Requests/sec: +([\d.]+)", text).group(1))
    number, unit = re.search(r"99% +([\d.]+)([a-z]+)", text).groups()
    return rate, taken and taken / count * 1e6, float(number) * MILLI[unit]


def read(how, path, before, after):
    try:
        figures = how(Path(path).read_text(), spent(before, after))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        sys.exit(f"its output makes no sense: {error!r}")
    return "\t".join("-" if figure is None else str(figure) for figure in figures)


def median(values, form):
    values = [value for value in values if value is not None]
    return form.format(statistics.median(values)) if values else "-"


def table(path, notes):
    runs, sections = {}, {}
    for line in Path(path).read_text().splitlines():
        number, job, threads, name, *figures = line.split("\t")
        section = (job, int(threads))
        sections.setdefault(section, {}).setdefault(name, []).append(number)
        runs[section, name, number] = [None if text == "-" else float(text) for text in figures]
    for section, names in sorted(sections.items(), key=lambda entry: (list(JOBS).index(entry[0][0]) if entry[0][0] in JOBS else 9, entry[0])):
        job, threads = section
        is_bulk = job.startswith("bulk")
        print(f"\n{JOBS.get(job, job)}; {'a thread' if threads == 1 else f'{threads} threads'} each\n")
        width = max(map(len, names))
        rate, cost = ("GB/s", "CPU s/GB") if is_bulk else ("requests/s", "CPU µs each")
        print(f"{'':{width}}  {rate:>10}  {'ours / it':>9} {'':16}  {cost:>11}  {'ours / it':>9}  {'p99 ms':>7}  {'ours / it':>9}  rounds")
        for name, numbers in names.items():
            mine = [runs[section, name, number] for number in numbers]
            ratios = [[], [], []]
            for number in numbers:
                ours = runs.get((section, "bench auto", number))
                for column, ratio in enumerate(ratios):
                    if ours and ours[column] and runs[section, name, number][column]:
                        ratio.append(ours[column] / runs[section, name, number][column])
            spread = f"({min(ratios[0]):.2f} to {max(ratios[0]):.2f})" if ratios[0] else ""
            print(
                f"{name:{width}}  {median([run[0] for run in mine], '{:.2f}' if is_bulk else '{:,.0f}'):>10}"
                f"  {median(ratios[0], '{:.2f}'):>9} {spread:16}"
                f"  {median([run[1] for run in mine], '{:.3f}' if is_bulk else '{:.1f}'):>11}  {median(ratios[1], '{:.2f}'):>9}"
                f"  {median([run[2] for run in mine], '{:.2f}'):>7}  {median(ratios[2], '{:.2f}'):>9}  {len(mine):>6}"
            )
    print(f"\n{Path(notes).read_text().rstrip()}")


def main():
    match sys.argv[1:]:
        case ["cpu", process]:
            taken = cpu(process)
            print("-" if taken is None else taken)
        case ["bulk", path, before, after]:
            print(read(bulk, path, before, after))
        case ["requests", path, before, after]:
            print(read(requests, path, before, after))
        case ["table", path, notes]:
            table(path, notes)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
