"""Reads OpenMetrics text from standard input with another's parser, and prints each sample that is not zero."""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        if sample.value:
            print(family.type, sample.name, sample.labels["element"], sample.labels.get("cause", "-"), sample.value)
