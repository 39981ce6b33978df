#!/usr/bin/env python3
"""Writes the Grafana dashboards beside it: service.json and scaling.json. Standard library only.

    python3 deploy/dashboards/make.py            # writes both
    python3 deploy/dashboards/make.py --check    # fails when they are not what it would write
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${source}"}


class Dashboard:
    """Panels in rows of 24 columns, in the order in which they are added."""

    def __init__(self, uid, title, description, variables):
        self.panels, self.x, self.y = [], 0, 0
        self.document = {
            "uid": uid,
            "title": title,
            "description": description,
            "tags": ["corymb"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}, *variables]},
        }

    def row(self, title):
        self.break_line()
        self.panels.append(self.place({"type": "row", "title": title, "collapsed": False, "panels": []}, 24, 1))
        self.break_line()

    def break_line(self):
        if self.x:
            self.x, self.y = 0, self.y + 8

    def place(self, panel, width, height):
        panel["id"] = len(self.panels) + 1
        panel["gridPos"] = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.x += width
        if self.x >= 24:
            self.x, self.y = 0, self.y + height
        return panel

    def graph(self, title, description, queries, unit="short", width=8, stack=False, least=0, most=None, **custom):
        """`queries`: pairs of PromQL and legend. The axis begins at `least` and ends at `most`, or where the lines do."""
        targets = [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for index, (expr, legend) in enumerate(queries)
        ]
        style = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", **custom}
        if stack:
            style |= {"stacking": {"mode": "normal"}, "fillOpacity": 40}
        axis = {name: end for name, end in (("min", least), ("max", most)) if end is not None}
        self.panels.append(self.place({
            "type": "timeseries",
            "title": title,
            "description": description,
            "datasource": SOURCE,
            "targets": targets,
            "fieldConfig": {"defaults": {"unit": unit, **axis, "custom": style}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        }, width, 8))

    def write(self, name, check):
        text = json.dumps(self.document | {"panels": self.panels}, indent=2) + "\n"
        path = HERE / name
        if check:
            if not path.exists() or path.read_text() != text:
                sys.exit(f"{name} is not what {pathlib.Path(__file__).name} writes: run it")
        else:
            path.write_text(text)


def variable(name, label, query):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


# Which pods a Corymb dashboard shows, by the labels that deploy/telemetry gives every series of Corymb. "All" is `.*`, which also
# matches series without the label: those of a plain Deployment have no revision.
PODS = 'namespace=~"$namespace",kn_revision_name=~"$revision"'


def pod_variables(metric):
    """Namespace, revision and pod, each among those that the ones before it leave."""
    return [
        variable("namespace", "Namespace", f"label_values({metric}, namespace)"),
        variable("revision", "Revision", f'label_values({metric}{{namespace=~"$namespace"}}, kn_revision_name)'),
        variable("pod", "Pod", f"label_values({metric}{{{PODS}}}, pod)"),
    ]


def service(check):
    p = PODS + ',pod=~"$pod"'
    m = p + ',model=~"$model"'
    dashboard = Dashboard(
        "corymb-service", "Corymb: service",
        "What a model server does: rate, latency by stage, queue, batches, utilisation, concurrency.",
        [*pod_variables("corymb_model_state"), variable("model", "Model", f"label_values(corymb_model_state{{{p}}}, model)")],
    )
    rate = "$__rate_interval"
    # Metrics that every process has, of the processes that are Corymb's.
    own = lambda expr: f"{expr} and on (namespace, pod, instance) corymb_build_info{{{p}}}"
    quantile = lambda q, by, name, labels: f"histogram_quantile({q}, sum by ({by}) (rate({name}_bucket{{{labels}}}[{rate}])))"

    dashboard.row("Requests")
    dashboard.graph("Rate by model", "Requests a second that named a model.",
        [(f"sum by (model) (rate(corymb_request_duration_seconds_count{{{m}}}[{rate}]))", "{{model}}")], "reqps")
    dashboard.graph("Rate by outcome", "ok, or why not.",
        [(f"sum by (outcome) (rate(corymb_request_duration_seconds_count{{{m}}}[{rate}]))", "{{outcome}}")], "reqps", stack=True)
    dashboard.graph("Rate by protocol", "How clients come in.",
        [(f"sum by (protocol) (rate(corymb_request_duration_seconds_count{{{m}}}[{rate}]))", "{{protocol}}")], "reqps", stack=True)
    dashboard.graph("Latency", "From the model's name being known to the answer.",
        [(quantile(q, "le", "corymb_request_duration_seconds", m), f"p{int(q * 100)}") for q in (0.5, 0.95, 0.99)], "s")
    dashboard.graph("HTTP answers by status", "Of the whole server, with what never got to a model.",
        [(f"sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count{{{p}}}[{rate}]))", "{{http_response_status_code}}")], "reqps", stack=True)
    dashboard.graph("gRPC calls by status", "Of the whole server; empty while nobody speaks gRPC.",
        [(f"sum by (rpc_response_status_code) (rate(rpc_server_call_duration_seconds_count{{{p}}}[{rate}]))", "{{rpc_response_status_code}}")], "reqps", stack=True)

    dashboard.row("Where the time goes")
    dashboard.graph("Mean time by stage", "Queueing, plugin, model and wire apart; stacked, they are the mean latency.",
        [(f"sum by (stage) (rate(corymb_stage_duration_seconds_sum{{{m}}}[{rate}])) / ignoring(stage) group_left sum(rate(corymb_request_duration_seconds_count{{{m}}}[{rate}]))", "{{stage}}")], "s", width=12, stack=True)
    dashboard.graph("Slowest twentieth by stage", "p95 of each stage.",
        [(quantile(0.95, "le, stage", "corymb_stage_duration_seconds", m), "{{stage}}")], "s", width=12)

    dashboard.row("Queue, batches, instances")
    dashboard.graph("Waiting", "Requests that wait for a worker or an instance.",
        [(f"sum by (model) (corymb_queue_depth{{{m}}})", "{{model}}")])
    dashboard.graph("Batch size", "Mean and p95 of requests in one run.",
        [(f"sum by (model) (rate(corymb_batch_size_sum{{{m}}}[{rate}])) / sum by (model) (rate(corymb_batch_size_count{{{m}}}[{rate}]))", "{{model}} mean"),
         (quantile(0.95, "le, model", "corymb_batch_size", m), "{{model}} p95")])
    dashboard.graph("Busy instances", "Instances that run at a time, averaged, and how many there are.",
        [(f"sum by (model, device) (rate(corymb_instance_busy_time_seconds_total{{{m}}}[{rate}]))", "{{model}} on {{device}}"),
         (f"sum by (model, device) (corymb_instance_count{{{m}}})", "{{model}} on {{device}}, all")])

    dashboard.row("Concurrency and capacity")
    dashboard.graph("Concurrency by model", "Average requests in flight by Knative's definition, and at the moment of the scrape.",
        [(f"sum by (model) (rate(corymb_request_concurrency_time_seconds_total{{{m}}}[{rate}]))", "{{model}} average"),
         (f"sum by (model) (corymb_request_in_flight{{{m}}})", "{{model}} now")])
    dashboard.graph("Concurrency by replica", "Of whole servers: what a target is compared with.",
        [(f"sum by (pod, instance) (rate(corymb_server_concurrency_time_seconds_total{{{p}}}[{rate}]))", "{{pod}} {{instance}}")])
    dashboard.graph("Saturation", "Load over measured capacity, that of others on the same cores included: above 1 more comes than can be done.",
        [(f"max by (model) (corymb_model_saturation_ratio{{{m}}})", "{{model}}")], "percentunit", axisSoftMax=1)
    dashboard.graph("Replicas", "Servers in which a model is ready.",
        [(f'count by (model) (corymb_model_state{{{m}, state="ready"}} == 1)', "{{model}}")], decimals=0)
    dashboard.graph("Models by state", "Loading, warming up, ready, draining or failed.",
        [(f"sum by (state) (corymb_model_state{{{m}}})", "{{state}}")], stack=True)
    dashboard.graph("Load time", "From the first byte read to ready, of the last loads.",
        [(f"sum by (model) (corymb_model_load_duration_seconds_sum{{{m}}}) / sum by (model) (corymb_model_load_duration_seconds_count{{{m}}})", "{{model}}")], "s")

    dashboard.row("Processes")
    dashboard.graph("Processor time", "Cores that each server keeps busy.",
        [(own(f"sum by (namespace, pod, instance) (rate(process_cpu_seconds_total{{{p}}}[{rate}]))"), "{{pod}} {{instance}}")])
    dashboard.graph("Resident memory", "Of each server, without the processes that instances run in.",
        [(own(f"sum by (namespace, pod, instance) (process_resident_memory_bytes{{{p}}})"), "{{pod}} {{instance}}")], "bytes")
    dashboard.graph("Versions", "Servers of each version of Corymb.",
        [(f"count by (version) (corymb_build_info{{{p}}})", "{{version}}")], decimals=0)
    dashboard.write("service.json", check)


def scaling(check):
    # Knative's components name the namespace of a revision by an attribute; `namespace` would be their own.
    n = 'k8s_namespace_name=~"$namespace"'
    k = n + ',kn_revision_name=~"$revision"'
    dashboard = Dashboard(
        "corymb-scaling", "Corymb: scaling by Knative",
        "What Knative's autoscaler sees and decides (names of Knative 1.19 and later), beside what Corymb counts itself.",
        [variable("namespace", "Namespace", "label_values(kn_revision_pods_desired, k8s_namespace_name)"),
         variable("revision", "Revision", f"label_values(kn_revision_pods_desired{{{n}}}, kn_revision_name)")],
    )
    rate = "$__rate_interval"
    dashboard.row("Replicas")
    dashboard.graph("Pods", "Wanted by the autoscaler, asked of Kubernetes, and there.",
        [(f"sum by (kn_revision_name) (kn_revision_pods_{state}{{{k}}})", "{{kn_revision_name}} " + word)
         for state, word in [("desired", "desired"), ("requested", "requested"), ("count", "ready"), ("not_ready_count", "not ready"), ("pending_count", "pending"), ("terminating_count", "terminating")]],
        width=16, lineInterpolation="stepAfter")
    dashboard.graph("Panic mode", "1 while the autoscaler looks at the short window only, and does not scale down.",
        [(f"max by (kn_revision_name) (kn_revision_panic_mode{{{k}}})", "{{kn_revision_name}}")], width=8, lineInterpolation="stepAfter", most=1)

    dashboard.row("Concurrency against the target")
    dashboard.graph("What decides", "Concurrency of all pods over the stable and the panic window, and the target of one pod.",
        [(f"sum by (kn_revision_name) (kn_revision_concurrency_{window}{{{k}}})", "{{kn_revision_name}} " + window) for window in ("stable", "panic", "target")], width=12)
    dashboard.graph("By Corymb's own count", "The same load seen from inside: the rate of the concurrency integral, and requests in flight.",
        [(f"sum(rate(corymb_server_concurrency_time_seconds_total{{{PODS}}}[{rate}]))", "average"),
         (f"sum(corymb_server_in_flight{{{PODS}}})", "now"),
         (f"sum(corymb_queue_depth{{{PODS}}})", "waiting inside")], width=12)

    dashboard.row("Activator")
    dashboard.graph("Concurrency in the activator", "Where it is in the path, this is what scales the revision.",
        [(f"sum by (kn_revision_name) (kn_revision_request_concurrency{{{k}}})", "{{kn_revision_name}}")])
    dashboard.graph("Requests in the activator", "Held until a pod has room, and on their way.",
        [(f"sum by (kn_revision_name) (kn_revision_request_queued{{{k}}})", "{{kn_revision_name}} queued"),
         (f"sum by (kn_revision_name) (kn_revision_request_active{{{k}}})", "{{kn_revision_name}} active")])
    dashboard.graph("Excess burst capacity", "Below 0 the activator stays in the path.",
        [(f"sum by (kn_revision_name) (kn_revision_capacity_excess{{{k}}})", "{{kn_revision_name}}")], least=None, axisSoftMin=-1)

    dashboard.row("Health of scaling")
    # Knative tells the service of a scrape and not the revision.
    services = f"and on (k8s_namespace_name, kn_service_name) kn_revision_pods_desired{{{k}}}"
    dashboard.graph("Scrape time", "What the autoscaler takes to ask all pods of a revision, by service.",
        [(f"histogram_quantile(0.95, sum by (k8s_namespace_name, kn_service_name, le) (rate(kn_autoscaler_scrape_duration_seconds_bucket{{{n}}}[{rate}]))) {services}", "{{kn_service_name}} p95")],
        "s", width=12)
    dashboard.graph("Saturation", "Load of each replica over its measured capacity; a target that no model needs tuned.",
        [(f"max by (pod, instance) (corymb_server_saturation_ratio{{{PODS}}})", "{{pod}} {{instance}}")], "percentunit", width=12, axisSoftMax=1)
    dashboard.write("scaling.json", check)


if __name__ == "__main__":
    check = sys.argv[1:] == ["--check"]
    service(check)
    scaling(check)
