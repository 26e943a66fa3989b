"""Reads a page of metrics with python's prometheus_client, and prints its samples as JSON: name, labels, value."""
import json
import sys

form, path = sys.argv[1:]
if form == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse
with open(path, encoding="utf-8") as page:
    families = list(parse(page.read()))
samples = [[sample.name, sample.labels, sample.value] for family in families for sample in family.samples]
print(json.dumps({"samples": samples, "units": {family.name: family.unit for family in families}}))
