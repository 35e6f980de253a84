"""The metrics of `lipwright.telemetry.metrics`, and the names under which Prometheus sees them."""

from __future__ import annotations

from lipwright.telemetry import metrics

METRICS = {metric.name: metric for metric in vars(metrics).values() if isinstance(metric, metrics.Metric)}


def exported_names() -> frozenset[str]:
    names: set[str] = set()
    for metric in METRICS.values():
        suffixes = {metrics._Counter: ("_total",), metrics._Histogram: ("_bucket", "_sum", "_count")}
        names.update(f"ray_{metric.name}{suffix}" for suffix in suffixes.get(type(metric), ("",)))
    return frozenset(names)


def documented_row(metric: metrics.Metric) -> str:
    kind, suffix = {metrics._Counter: ("counter", "_total"), metrics._Histogram: ("histogram", "_bucket")}.get(
        type(metric), ("gauge", "")
    )
    unit = next((unit for unit in ("seconds", "bytes") if metric.name.endswith(f"_{unit}")), "count")
    cells = (f"`ray_{metric.name}{suffix}`", kind, unit, ", ".join(metric.labels), metric.description)
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")
