#!/usr/bin/env python3
"""Reads the output of bench proxy load, wrk and iperf3, and prints the figures of several rounds as tables.

  proxy.py blocklist N                         a blocklist of N networks, none of them on loopback
  proxy.py cpu PID                             CPU s of a process and its children
  proxy.py read TARGET FILE BEFORE AFTER FAILED
                                               one load's output -> "rate cpu p99 errors", - for unknown; a second line is
                                               the direct path's
  proxy.py table FILE REFERENCE NOTES          tab-separated: round job protocol threads name rate cpu p99 errors

TARGET is origin (bench proxy load --json), nginx (wrk --latency) or iperf3 (iperf3 -J).
BEFORE and AFTER are the output of cpu around the job, FAILED the number of failed attempts. Rates are GB/s or requests/s, CPU is in
s per GB or µs per request, p99 in ms; errors are "kind count, kind count".

Needs Python 3.10 and nothing else.
"""

import ipaddress
import json
import os
import re
import statistics
import sys
from pathlib import Path

JOBS = {
    "request-response": "bench proxy load, 32 kept connections",
    "connect": "bench proxy load, 32 connections, one request each",
    "bulk": "bench proxy load, streams: ",
    "beside": "bench proxy load, 500 requests a second beside streams: ",
    "wrk-kept": "wrk, 32 kept connections",
    "wrk-close": "wrk, 32 connections, one request each",
    "iperf3": "iperf3, streams: ",
}
PROTOCOLS = {"forward": "forwarding", "socks5": "SOCKS5", "connect": "HTTP CONNECT"}
MILLI = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def blocklist(count):
    """Single addresses without neighbours, which cannot be merged into networks."""
    for number in range(count):
        print(ipaddress.IPv4Address("11.0.0.0") + 331 * number)


def cpu(process):
    """CPU time of ended processes is part of their parent's, which waited for them."""
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


def read_iperf3(text, taken):
    got = json.loads(text)["end"]["sum_received"]
    gigabytes = got["bytes"] / 1e9
    return gigabytes / got["seconds"], taken and taken / gigabytes, None, {}


def read_nginx(text, taken):
    count = int(re.search(r"(\d+) requests in", text).group(1))
    rate = float(re.search(r"Requests/sec: +([\d.]+)", text).group(1))
    number, unit = re.search(r"99% +([\d.]+)([a-z]+)", text).groups()
    errors = {}
    if found := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        errors = dict(zip(("connect", "read", "write", "timeout"), map(int, found.groups())))
    if found := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        errors["not 2xx"] = int(found.group(1))
    return rate, taken and taken / count * 1e6, float(number) * MILLI[unit], errors


def read_path(text, path):
    run = next((run for run in json.loads(text)["runs"] if run["path"] == path), None)
    if run is None:
        return None
    errors = {kind: count for kind, count in run["errors"].items() if kind != "total"}
    if not run["complete"]:
        return None, None, None, errors
    if run["scenario"] == "bulk":
        return run["bytes_per_s"] / 1e9, run["cpu"]["proxy_s_per_gb"], None, errors
    cost = run["cpu"]["proxy_s_per_10k"]
    latency = run["latency_from_intended_ns"] or run["latency_ns"]
    return run["requests_per_s"], cost and cost * 100, latency["p99"] / 1e6, errors


READERS = {
    # Its record has the proxy's CPU time without the warm-up.
    "origin": lambda text, _: [path for name in ("proxied", "direct") if (path := read_path(text, name))],
    "nginx": lambda text, taken: [read_nginx(text, taken)],
    "iperf3": lambda text, taken: [read_iperf3(text, taken)],
}


def read(target, path, before, after, failed):
    taken = None if "-" in (before, after) else float(after) - float(before)
    try:
        lines = READERS[target](Path(path).read_text(), taken)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        sys.exit(f"its output makes no sense: {error!r}")
    lines[0][-1]["failed"] = int(failed)
    for *figures, errors in lines:
        counts = ", ".join(f"{kind} {count}" for kind, count in errors.items() if count)
        print(*("-" if figure is None else figure for figure in figures), counts or "-", sep="\t")


class Row:
    """One name in one table: figures by round, and all errors."""

    def __init__(self):
        self.rounds, self.errors = {}, {}

    def add(self, number, figures, errors):
        self.rounds.setdefault(number, []).append([None if text == "-" else float(text) for text in figures])
        for error in errors.split(", ") if errors != "-" else []:
            kind, count = error.rsplit(" ", 1)
            self.errors[kind] = self.errors.get(kind, 0) + int(count)

    def of(self, number, column):
        """The direct path is measured with each proxy, so several times a round."""
        known = [run[column] for run in self.rounds.get(number, []) if run[column] is not None]
        return statistics.median(known) if known else None

    def all(self, column):
        return [figure for number in self.rounds if (figure := self.of(number, column)) is not None]

    def ratios(self, reference, column):
        pairs = [(reference.of(number, column), self.of(number, column)) for number in self.rounds]
        return [ours / theirs for ours, theirs in pairs if ours and theirs]


def median(values, form):
    return form.format(statistics.median(values)) if values else "-"


def heading(job, protocol, threads, reference):
    name = re.sub(r"-\d+$", "", job)
    what = JOBS[name] + (job.removeprefix(name)[1:] or "1") * JOBS[name].endswith(" ")
    count = "a thread each" if threads == 1 else f"{threads} threads each"
    return f"{job}, {PROTOCOLS[protocol]} ({what}; {count}); ratio: {reference} / it"


def section(title, rows, reference, is_bulk):
    print(f"\n{title}\n")
    width = max(map(len, rows))
    columns = [("GB/s", "{:.2f}"), ("CPU s/GB", "{:.3f}")] if is_bulk else [("requests/s", "{:,.0f}"), ("CPU µs each", "{:.1f}"), ("p99 ms", "{:.2f}")]
    heads = [f"{head:>11} {'ratio':>5}" + " " * 15 * (head == columns[0][0]) for head, _ in columns]
    print(" " * width, *heads, "rounds  errors", sep="  ")
    for name, row in rows.items():
        cells = []
        for column, (_, form) in enumerate(columns):
            ratios = row.ratios(rows.get(reference, Row()), column)
            cells.append(f"{median(row.all(column), form):>11} {median(ratios, '{:.2f}'):>5}")
            if column == 0:
                spread = f"({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
                cells[0] += f" {spread:14}"
        errors = ", ".join(f"{kind} {count:,}" for kind, count in row.errors.items())
        print(f"{name:{width}}", *cells, f"{len(row.all(0)):>6}  {errors or 0}", sep="  ")


def table(path, reference, notes):
    sections = {}
    for line in Path(path).read_text().splitlines():
        number, job, protocol, threads, name, *figures, errors = line.split("\t")
        rows = sections.setdefault((job, protocol, int(threads)), {})
        rows.setdefault(name, Row()).add(number, figures, errors)
    jobs = list(dict.fromkeys(job for job, _, _ in sections))
    for job, protocol, threads in sorted(sections, key=lambda key: (jobs.index(key[0]), list(PROTOCOLS).index(key[1]), key[2])):
        rows = sections[job, protocol, threads]
        # The direct path first, then the proxies in their order.
        first = {"direct": rows.pop("direct")} if "direct" in rows else {}
        section(heading(job, protocol, threads, reference), first | rows, reference, job.startswith(("bulk", "iperf3")))
    print(f"\n{Path(notes).read_text().rstrip()}")


def main():
    match sys.argv[1:]:
        case ["blocklist", count]:
            blocklist(int(count))
        case ["cpu", process]:
            print(cpu(process))
        case ["read", target, path, before, after, failed] if target in READERS:
            read(target, path, before, after, failed)
        case ["table", path, reference, notes]:
            table(path, reference, notes)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
