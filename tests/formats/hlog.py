"""Reads an interval log with python's hdrhistogram, and prints its lines and the merged histogram of each tag as JSON."""
import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

HIGHEST = 60_000_000_000
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}

path = sys.argv[1]
reader = HistogramLogReader(path, HdrHistogram(1, HIGHEST, 3))
lines, merged = [], {}
while (histogram := reader.get_next_interval_histogram()) is not None:
    tag = histogram.get_tag() or ""
    start, end = histogram.get_start_time_stamp(), histogram.get_end_time_stamp()
    lines.append({"tag": tag, "start_ms": start, "end_ms": end, "count": histogram.get_total_count()})
    merged.setdefault(tag, HdrHistogram(1, HIGHEST, 3)).add(histogram)


def figures(of):
    """Count, maximum, and the values one rank below and above each percentile."""
    count, most = of.get_total_count(), of.get_max_value()
    rank = 100 / max(count, 1)
    found = {"count": count, "max": [most, most]}
    for name, percent in PERCENTILES.items():
        ends = (max(percent - rank, 0), min(percent + rank, 100))
        found[name] = [of.get_value_at_percentile(end) for end in ends]
    return found


tags = {tag: figures(of) for tag, of in merged.items()}
print(json.dumps({"start_s": reader.start_time_sec, "lines": lines, "tags": tags}))
