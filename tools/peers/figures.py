#!/usr/bin/env python3
"""Reads the output of the tools, and prints the figures of several rounds as a table.

  figures.py ports N               N free ports in a row on loopback (TCP and UDP)
  figures.py listening PROTO PORT  waits up to 3 s for a listener
  figures.py read TOOL FOLDER      one run's output -> "sent delivered seconds cpu_s", - for unknown
  figures.py table FILE NOTES      tab-separated: round section name baseline sent delivered seconds cpu_s
  figures.py pacing                reads run records from stdin, one a line
  figures.py read trips_TOOL FOLDER  one run's output -> "p50 p99 exchanges", in ns
  figures.py trips FILE NOTES      tab-separated: round section name p50 p99 exchanges

Needs Python 3.10 and nothing else.
"""

import json
import random
import re
import socket
import statistics
import sys
import time
from pathlib import Path


def ports(count):
    for _ in range(200):
        first = random.randint(20_000, 31_900)
        sockets = []
        try:
            for port in range(first, first + count):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    sockets.append(socket.socket(socket.AF_INET, kind))
                    sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    sys.exit("no free ports between 20000 and 31999 on loopback")


def listening(protocol, port):
    state = {"tcp": "0A", "udp": "07"}[protocol]
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for family in ("", "6"):
            for line in Path(f"/proc/net/{protocol}{family}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rsplit(":", 1)[1], 16) == port and fields[3] == state:
                    return
        time.sleep(0.01)
    sys.exit(f"no listener on {protocol} port {port}")


def read_bench(folder):
    run = json.loads((folder / "client").read_text())["runs"][0]
    cpu = run["cpu"]
    parts = [cpu[f"{side}_{mode}_s"] for side in ("sender", "receiver") for mode in ("user", "system")]
    cost = None if None in parts else sum(parts)
    return run["sent"]["packets"], run["received"]["unique"], run["seconds"], cost


def read_iperf3(folder):
    end = json.loads((folder / "client").read_text())["end"]
    total = end["sum"]
    percent = end["cpu_utilization_percent"]
    # The receiver's count where it is separate (3.17 and later). It counts datagrams in flight at the end
    # as neither sent nor lost.
    received = end.get("sum_received", total)
    delivered = received["packets"] - received["lost_packets"]
    seconds = received["seconds"]
    cost = (percent["host_total"] + percent["remote_total"]) / 100 * seconds
    return total["packets"], delivered, seconds, cost


def read_nuttcp(folder):
    text = (folder / "client").read_text()
    pairs = dict(pair.split("=", 1) for pair in text.split() if "=" in pair)
    seconds = float(pairs["real_seconds"])
    sent = int(pairs["pkt"])
    cost = (float(pairs["tx_cpu"]) + float(pairs["rx_cpu"])) / 100 * seconds
    return sent, sent - int(pairs["drop"]), seconds, cost


def read_iperf2(folder):
    # The server's last line: "[  1] 0.0000-0.9999 sec  541 MBytes ... 31310/598120 (5.2%) ..."
    found = re.findall(r"([\d.]+)-([\d.]+) sec .*?\s(-?\d+)/\s*(\d+) \(", (folder / "server").read_text())
    start, end, lost, total = found[-1]
    return int(total), int(total) - int(lost), float(end) - float(start), None


def read_sockperf(folder):
    sent, seconds = re.search(r"Total of (\d+) messages sent in ([\d.]+) sec", (folder / "client").read_text()).groups()
    # The client reports only what it sent; the server's last line has what arrived.
    handled = re.search(r"Total (\d+) messages received and handled", (folder / "server").read_text())
    return int(sent), int(handled.group(1)) if handled else None, float(seconds), None


def read_trips_bench(folder):
    run = json.loads((folder / "client").read_text())["runs"][0]
    return run["latency_ns"]["p50"], run["latency_ns"]["p99"], run["received"]["unique"]


def read_trips_sockperf(folder):
    text = (folder / "client").read_text()
    percentile = dict(re.findall(r"percentile ([\d.]+) = +([\d.]+)", text))
    count = re.search(r"Total (\d+) observations", text).group(1)
    return float(percentile["50.000"]) * 1e3, float(percentile["99.000"]) * 1e3, int(count)


def read(tool, folder):
    try:
        figures = globals()[f"read_{tool}"](Path(folder))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        sys.exit(f"its output makes no sense: {error!r}")
    return "\t".join("-" if figure is None else str(figure) for figure in figures)


def median(values, form, scale=1.0):
    values = [value for value in values if value is not None]
    return form.format(statistics.median(values) * scale) if values else "-"


def table(path, notes):
    rounds = {}
    sections = {}
    for line in Path(path).read_text().splitlines():
        number, section, name, baseline, sent, delivered, seconds, cpu = line.split("\t")
        sent, delivered, seconds, cpu = (None if text == "-" else float(text) for text in (sent, delivered, seconds, cpu))
        names = sections.setdefault(section, (baseline, []))[1]
        if name not in names:
            names.append(name)
        rounds[section, name, number] = {
            "rate": delivered and seconds and delivered / seconds / 1e6,
            "loss": None if delivered is None or not sent else (1 - delivered / sent) * 100,
            "cpu": cpu and delivered and cpu / delivered * 1e6,
        }
    for section, (baseline, names) in sections.items():
        print(f"\n{section}; ratio to {baseline}\n")
        width = max(map(len, names))
        print(f"{'':{width}}  delivered Mpps     loss %      ratio (min to max)     CPU s/M    rounds")
        for name in names:
            runs = {number: figures for (where, who, number), figures in rounds.items() if (where, who) == (section, name)}
            ratios = []
            for number, figures in runs.items():
                base = rounds.get((section, baseline, number), {}).get("rate")
                if base and figures["rate"]:
                    ratios.append(figures["rate"] / base)
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
            print(
                f"{name:{width}}  {median([run['rate'] for run in runs.values()], '{:14.3f}'):>14}"
                f"  {median([run['loss'] for run in runs.values()], '{:9.3f}'):>9}"
                f"  {median(ratios, '{:9.2f}'):>9} {spread:18}"
                f"  {median([run['cpu'] for run in runs.values()], '{:7.3f}'):>7}  {len(runs):>8}"
            )
    print(f"\n{Path(notes).read_text().rstrip()}")


def interval(values):
    """The 95 % confidence interval of the median, by rank; all values where they are too few for it."""
    values = sorted(values)
    count, beyond = len(values), 0
    # The rank with at most 2.5 % of a binomial distribution below it.
    share = 0.5**count
    cumulated = share
    while cumulated <= 0.025:
        beyond += 1
        share = share * (count - beyond + 1) / beyond
        cumulated += share
    low = max(beyond - 1, 0)
    return values[low], values[count - 1 - low]


def trips(path, notes):
    rounds, sections = {}, {}
    for line in Path(path).read_text().splitlines():
        number, section, name, p50, p99, count = line.split("\t")
        names = sections.setdefault(section, set())
        names.add(name)
        rounds[section, name, number] = {"p50": float(p50), "p99": float(p99), "count": float(count)}
    for section, names in sorted(sections.items()):
        print(f"\n{section}; ratio to sockperf\n")
        width = max(map(len, names))
        print(f"{'':{width}}  {'p50 us':>8}  {'ratio (95 % interval)':24}  {'p99 us':>8}  {'ratio (95 % interval)':24}  {'exchanges':>9}  rounds")
        for name in sorted(names):
            runs = {number: figures for (where, who, number), figures in rounds.items() if (where, who) == (section, name)}
            row = f"{name:{width}}"
            for key in ("p50", "p99"):
                ratios = [
                    figures[key] / rounds[section, "sockperf", number][key]
                    for number, figures in runs.items()
                    if (section, "sockperf", number) in rounds
                ]
                text = ""
                if ratios:
                    low, high = interval(ratios)
                    text = f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
                row += f"  {median([run[key] for run in runs.values()], '{:8.2f}', 1e-3)}  {text:24}"
            print(f"{row}  {median([run['count'] for run in runs.values()], '{:9.0f}')}  {len(runs):>6}")
    print(f"\n{Path(notes).read_text().rstrip()}")


def pacing():
    print(f"{'target pps':>10}  {'achieved':>11}  {'gap error ns: p50':>17}  {'p90':>8}  {'p99':>8}  {'p99.9':>9}  {'max':>11}  {'late p99 ns':>11}  {'sender CPU':>10}  {'lost':>5}")
    for line in sys.stdin:
        if not line.strip():
            continue
        run = json.loads(line)["runs"][0]
        pacing, cpu = run["pacing"], run["cpu"]
        gap = pacing["gap_error_ns"]
        share = (cpu["sender_user_s"] + cpu["sender_system_s"]) / run["seconds"]
        print(
            f"{pacing['target_pps']:>10,.0f}  {pacing['achieved_pps']:>11,.1f}  {gap['p50']:>17,}  {gap['p90']:>8,}  {gap['p99']:>8,}"
            f"  {gap['p99_9']:>9,}  {gap['max']:>11,}  {pacing['lateness_ns']['p99']:>11,}  {share:>10.0%}  {run['lost']['packets']:>5,}"
        )


def main():
    match sys.argv[1:]:
        case ["ports", count]:
            print(ports(int(count)))
        case ["listening", protocol, port]:
            listening(protocol, int(port))
        case ["read", tool, folder]:
            print(read(tool, folder))
        case ["table", path, notes]:
            table(path, notes)
        case ["trips", path, notes]:
            trips(path, notes)
        case ["pacing"]:
            pacing()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
