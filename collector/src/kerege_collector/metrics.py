"""What the collector counts about itself, for Prometheus; the names are in docs/wire.md and docs/operations.md.

No label carries a center's id: ten thousand centers would be ten thousand series of what ``/api/v1/centers`` tells better, and ids can be
invented by whoever may write to the broker. Centers are counted by state.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of `Metrics.text`."""

BATCH_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""From a single report into SQLite to a batch that waits for a database that restarts."""

RECORD_OUTCOMES: Final = ("accepted", "repeated", "refused", "kept")
PAYLOAD_OUTCOMES: Final = ("accepted", "unreadable", "wrong-center", "bad-topic", "held", "bad-presence")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each counter, which says only when this process started


class Metrics:
    """Counters that the pipeline feeds, and gauges that are asked when somebody looks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._records = Counter("kerege_records", "Records by how they ended", ["outcome"], registry=self.registry)
        self._payloads = Counter("kerege_payloads", "MQTT messages by how they ended", ["outcome"], registry=self.registry)
        self._failures = Counter("kerege_store_failures", "Tries to write that failed", ["place", "reason"], registry=self.registry)
        self._batch = Histogram(
            "kerege_batch_seconds", "From the admission of a batch to its acknowledgement", buckets=BATCH_BUCKETS, registry=self.registry
        )
        self._batch_records = Counter("kerege_batch_records", "Records stored in these batches", registry=self.registry)
        # a counter that is not there looks like a zero that nobody counted
        self._by_outcome = {outcome: self._records.labels(outcome) for outcome in RECORD_OUTCOMES}
        for outcome in PAYLOAD_OUTCOMES:
            self._payloads.labels(outcome)
        ProcessCollector(registry=self.registry)

    def records(self, outcome: str, count: int) -> None:
        """``count`` records ended as ``outcome``: accepted, repeated, refused, or kept by their agents."""
        self._by_outcome[outcome].inc(count)

    def payloads(self, outcome: str, count: int) -> None:
        """``count`` messages ended as ``outcome`` (docs/wire.md)."""
        self._payloads.labels(outcome).inc(count)

    def store_failure(self, place: str, reason: str) -> None:
        """Store or ledger (``place``) could not be written."""
        self._failures.labels(place, reason).inc()

    def batch(self, seconds: float, records: int) -> None:
        """A batch of so many stored records took so long, from admission to acknowledgement."""
        self._batch.observe(seconds)
        self._batch_records.inc(records)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that asks ``value`` whenever the metrics are read."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def watch_each(self, name: str, text: str, label: str, values: Mapping[str, Callable[[], float]]) -> None:
        """One gauge with a label, asking for each of its values."""
        gauge = Gauge(name, text, [label], registry=self.registry)
        for value, ask in values.items():
            gauge.labels(value).set_function(ask)

    def watch_together(self, name: str, text: str, label: str, ask: Callable[[], Mapping[str, float]]) -> None:
        """One gauge with a label whose values are all given by one question. The caller sees to it that there are few."""
        self.registry.register(_Together(name, text, label, ask))

    def text(self) -> bytes:
        """All of it, as `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _Together(Collector):
    def __init__(self, name: str, text: str, label: str, ask: Callable[[], Mapping[str, float]]) -> None:
        self._name, self._text, self._label, self._ask = name, text, label, ask

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(self._name, self._text, labels=[self._label])]  # else the registry would ask already now

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, number in self._ask().items():
            family.add_metric([value], number)
        return [family]
