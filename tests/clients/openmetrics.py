"""Reads the metrics page by the parser of Prometheus' Python client, which knows the rules of OpenMetrics and refuses what breaks
them. Called with the page's URL and the id of a trace that a request of it belonged to."""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

ACCEPT = "application/openmetrics-text; version=1.0.0"


def main(url, trace):
    request = urllib.request.Request(url, headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=30) as answer:
        kind = answer.headers["Content-Type"]
        assert kind == ACCEPT + "; charset=utf-8", kind
        page = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    for name, kind, unit in [
        ("corymb_request_duration_seconds", "histogram", "seconds"),
        ("http_server_request_duration_seconds", "histogram", "seconds"),
        ("corymb_request_concurrency_time_seconds", "counter", "seconds"),
        ("corymb_model_saturation_ratio", "gauge", "ratio"),
        ("process_resident_memory_bytes", "gauge", "bytes"),
        ("process_cpu_seconds", "counter", "seconds"),
        ("corymb_build_info", "gauge", ""),
    ]:
        family = families[name]
        assert (family.type, family.unit) == (kind, unit), (name, family.type, family.unit)
        assert family.documentation and family.samples, name
    for name in ["corymb_request_duration_seconds", "http_server_request_duration_seconds"]:
        found = [sample for sample in families[name].samples if sample.exemplar and sample.exemplar.labels["trace_id"] == trace]
        assert len(found) == 1, (name, found)
        sample, exemplar = found[0], found[0].exemplar
        assert sample.name.endswith("_bucket") and exemplar.value <= float(sample.labels["le"]), sample
        assert exemplar.timestamp, exemplar
    print(f"{len(families)} families")


main(*sys.argv[1:])
