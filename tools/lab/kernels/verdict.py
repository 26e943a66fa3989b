"""Judges what kernels/init printed on a machine's console: a line for each job, exit 1 when one did not hold."""

import json
import re
import sys

failed = 0
ended = False


def tell(verdict, name, detail):
    global failed
    failed += verdict == "FAIL"
    print(f"{verdict:<5} {name:<22} {detail}")


def identities(run):
    """Why a run does not add up; empty where it does."""
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
        # Both ends read one clock, so the offset is 0 in truth; what the queues of an emulated machine add to 20 ms is not known.
        offset, error = clock["offset_ns"], clock["error_ns"]
        if clock["source"] != "estimated" or not error:
            wrong = "the clocks' offset was not estimated"
        else:
            detail += f" ± {error / 1e6:.2f} ms"
            if abs(offset) > error or latency["min"] + error < 20e6 or latency["min"] - error > 35e6:
                wrong = "the error bar does not hold the truth"
    if job.startswith("netem") and not (lost and received["duplicates"] and received["reordered"]):
        wrong = "netem loses, repeats and reorders, and the run shows none of one of these"
    if job == "fq-16mbit" and kb_per_s > 2_100:
        wrong = "a queue of 16 Mbit/s let through more"
    tell("FAIL" if wrong else "PASS", name, f"{wrong}: {detail}" if wrong else detail)


def proxy(name, record):
    errors = sum(run["errors"]["total"] for run in record["runs"])
    done = sum(run["requests"] for run in record["runs"])
    whole = all(run["complete"] for run in record["runs"])
    tell("PASS" if whole and not errors else "FAIL", name, f"{done} right answers, {errors} errors")


def judge(name, code, trouble, text):
    if name.startswith("send/"):
        return tell("PASS" if code == 0 and text == "RESPONSE || hello" else "FAIL", name, text or trouble)
    if name.startswith("blocked/"):
        return tell("PASS" if code == 1 and "blocked" in trouble else "FAIL", name, trouble)
    if code != 0:
        return tell("FAIL", name, f"exit {code}: {trouble}")
    record = json.loads(text)
    if name == "doctor":
        for check in record["checks"]:
            found = check.get("found") or check.get("value") or check.get("state") or ""
            print(f"      {check.get('name', '')}: {found}")
        return tell("PASS", name, f"kernel {record['host']['kernel']}")
    if name.startswith("proxy/"):
        return proxy(name, record)
    udp(name, record["runs"][0])


console = open(sys.argv[1], encoding="utf-8", errors="replace").read().replace("\r", "")
for found in re.finditer(r"^@@ (\S+) (\S+) ?(.*)\n((?:(?!@@).*\n)*)", console, re.M):
    name, code, trouble, text = found.groups()
    if name == "end":
        ended = True
    elif code == "skip":
        tell("SKIP", name, trouble)
    else:
        try:
            judge(name, int(code), trouble.strip(), text.strip())
        except (ValueError, KeyError, TypeError) as error:
            tell("FAIL", name, f"what it printed makes no sense: {error}")
if not ended:
    tell("FAIL", "end", "the machine stopped before its last job: " + console[-300:].replace("\n", " "))
sys.exit(failed > 0)
