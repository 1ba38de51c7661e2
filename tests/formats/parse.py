"""Parses OpenMetrics from standard input with Prometheus' own Python library, and prints the samples as JSON.

    parse.py MODULES    MODULES contains prometheus_client
"""
import json
import sys

sys.path.insert(0, sys.argv[1])
from prometheus_client.openmetrics.parser import text_string_to_metric_families  # noqa: E402

text = sys.stdin.buffer.read().decode()
samples = []
for family in text_string_to_metric_families(text):
    for sample in family.samples:
        exemplar = sample.exemplar and sample.exemplar.labels
        samples.append([sample.name, sample.labels, sample.value, exemplar, family.type, family.unit])
json.dump(samples, sys.stdout)
