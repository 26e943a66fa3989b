"""Checks the console output of kernels/init: a line for each job, exit 1 if one failed."""

import json
import re
import sys

failed = 0
ended = False


def report(verdict, name, detail):
    global failed
    failed += verdict == "FAIL"
    print(f"{verdict:<5} {name:<22} {detail}")


def identities(run):
    """Why the figures of a run are inconsistent; empty if they are not."""
    sent, received, lost = run["sent"], run["received"], run["lost"]
    if sent["packets"] != received["unique"] + lost["packets"]:
        return "sent is not unique + lost"
    if received["packets"] != received["unique"] + received["duplicates"]:
        return "received is not unique + duplicates"
    if lost["packets"] != lost["not_sent"] + lost["receiver_socket"] + lost["elsewhere"]:
        return "lost is not the sum of its parts"
    rows = run["intervals"]
    if sum(row["missing"] for row in rows) != lost["packets"]:
        return "the rows do not add up to what is lost"
    if sum(row["packets"] for row in rows) != received["packets"]:
        return "the rows do not add up to what was received"
    return ""


def udp(name, run):
    sent, received, lost = run["sent"]["packets"], run["received"], run["lost"]["packets"]
    clock, latency = run["effective"]["clock"], run["latency_ns"]
    kb_per_s = run["kb_per_s"]
    detail = f"{sent} sent, {lost} lost, {received['duplicates']} twice, {received['reordered']} reordered, {kb_per_s:.0f} KB/s"
    if latency:
        detail += f", p50 {latency['p50'] / 1e6:.2f} ms"
    wrong = identities(run)
    if not run["complete"]:
        wrong = run["reason"]
    job = name.split("/")[0]
    if job in ("lossless", "gso-off", "two-hosts", "fq-16mbit") and lost:
        wrong = "a lossless run lost some"
    if job == "delay-20ms":
        # Both ends read one clock, so the true offset is 0. The delay of the emulated queues beyond 20 ms is unknown.
        offset, error = clock["offset_ns"], clock["error_ns"]
        if clock["source"] != "estimated" or not error:
            wrong = "the clocks' offset was not estimated"
        else:
            detail += f" ± {error / 1e6:.2f} ms"
            if abs(offset) > error or latency["min"] + error < 20e6 or latency["min"] - error > 35e6:
                wrong = "the error bar does not contain the true offset"
    if job.startswith("netem") and not (lost and received["duplicates"] and received["reordered"]):
        wrong = "netem loses, repeats and reorders, and the run shows none of one of these"
    if job == "fq-16mbit" and kb_per_s > 2_100:
        wrong = "a queue of 16 Mbit/s let through more"
    report("FAIL" if wrong else "PASS", name, f"{wrong}: {detail}" if wrong else detail)


def proxy(name, record):
    errors = sum(run["errors"]["total"] for run in record["runs"])
    done = sum(run["requests"] for run in record["runs"])
    whole = all(run["complete"] for run in record["runs"])
    report("PASS" if whole and not errors else "FAIL", name, f"{done} right answers, {errors} errors")


def judge(name, code, stderr, text):
    if name.startswith("send/"):
        return report("PASS" if code == 0 and text == "RESPONSE || hello" else "FAIL", name, text or stderr)
    if name.startswith("blocked/"):
        return report("PASS" if code == 1 and "blocked" in stderr else "FAIL", name, stderr)
    if code != 0:
        return report("FAIL", name, f"exit {code}: {stderr}")
    record = json.loads(text)
    if name == "doctor":
        for check in record["checks"]:
            found = check.get("found") or check.get("value") or check.get("state") or ""
            print(f"      {check.get('name', '')}: {found}")
        return report("PASS", name, f"kernel {record['host']['kernel']}")
    if name.startswith("proxy/"):
        return proxy(name, record)
    udp(name, record["runs"][0])


console = open(sys.argv[1], encoding="utf-8", errors="replace").read().replace("\r", "")
for found in re.finditer(r"^@@ (\S+) (\S+) ?(.*)\n((?:(?!@@).*\n)*)", console, re.M):
    name, code, stderr, text = found.groups()
    if name == "end":
        ended = True
    elif code == "skip":
        report("SKIP", name, stderr)
    else:
        try:
            judge(name, int(code), stderr.strip(), text.strip())
        except (ValueError, KeyError, TypeError) as error:
            report("FAIL", name, f"invalid output: {error}")
if not ended:
    report("FAIL", "end", "the machine stopped before its last job: " + console[-300:].replace("\n", " "))
sys.exit(failed > 0)
