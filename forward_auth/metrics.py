"""What Prometheus is told: every metric of the public contract, bound once at start.

For: counting without look-ups on the hot path (a check's outcome is an integer in a dictionary made at start) and rendering on demand.
Refuses: a label that does not come from the configuration or from a fixed list. Cardinality is fixed: no host, path, person or address.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from forward_auth import __version__

PREFIX: Final = "psc_forward_auth_"
OUTCOMES: Final = ("allowed", "open", "bearer", "sign_in", "unauthenticated", "forbidden", "refused", "error")
SIGN_IN_OUTCOMES: Final = (
    "success",
    "cancelled",
    "denied",
    "stale",
    "refused",
    "level",
    "unavailable",
    "loop",
    "handoff",
    "error",
)
SIGN_OUT_CAUSES: Final = (
    "person",
    "back_channel",
    "administrator",
    "replaced",
    "another_person",
    "idle",
    "absolute",
    "renewal",
    "subject_changed",
)
RENEWAL_OUTCOMES: Final = ("renewed", "refused", "unreachable", "changed", "error")
PSC_ENDPOINTS: Final = ("discovery", "keys", "token", "refresh", "userinfo", "revoke")
PSC_OUTCOMES: Final = ("ok", "denied", "refused", "unavailable", "cancelled")
STORE_OPERATIONS: Final = ("find", "add", "replace", "touch", "end", "changes", "expire", "note", "list", "open")


class Checks(Collector):
    """checks_total{dialect,app,outcome}. A cell is a plain integer: `cells[app] += 1` costs a fraction of a Counter's lock, and the
    event loop is one thread."""

    def __init__(self, dialects: Iterable[str], apps: Iterable[str]) -> None:
        self._dialects = tuple(dialects)
        self.cells: dict[str, dict[str, dict[str, int]]] = {}
        for dialect in self._dialects:
            self.cells[dialect] = {outcome: {} for outcome in OUTCOMES}
        self.know(apps)

    def know(self, apps: Iterable[str]) -> None:
        """Have a cell for each app, and for "" (an unknown host); counts of apps that are gone stay, as counters must."""
        for app in (*apps, ""):
            for by_outcome in self.cells.values():
                for by_app in by_outcome.values():
                    by_app.setdefault(app, 0)

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(PREFIX + "checks", "Checks answered", labels=("dialect", "app", "outcome"))
        for dialect, by_outcome in self.cells.items():
            for outcome, by_app in by_outcome.items():
                for app, count in by_app.items():
                    family.add_metric((dialect, app, outcome), count)
        yield family


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self, dialects: Iterable[str], apps: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self.checks = Checks(dialects, apps)
        self.registry.register(self.checks)
        self.check_seconds = Histogram(
            PREFIX + "check_seconds",
            "Time to answer a check, without the network; one check in 64 is observed",
            buckets=(
                0.000005,
                0.00001,
                0.00002,
                0.00005,
                0.0001,
                0.00025,
                0.0005,
                0.001,
                0.0025,
                0.005,
                0.01,
                0.05,
                0.25,
                1.0,
            ),
            registry=self.registry,
        )
        self.sign_ins = self._counter("sign_ins", "Sign-ins that came to an end", "outcome", SIGN_IN_OUTCOMES)
        self.sign_outs = self._counter("sign_outs", "Logins ended", "cause", SIGN_OUT_CAUSES)
        self.renewals = self._counter("renewals", "Renewals of logins at PSC", "outcome", RENEWAL_OUTCOMES)
        self.store_errors = self._counter(
            "store_errors", "Times the store could not answer", "operation", STORE_OPERATIONS
        )
        self.psc_requests = Counter(
            PREFIX + "psc_requests", "Requests to PSC", ("endpoint", "outcome"), registry=self.registry
        )
        for endpoint in PSC_ENDPOINTS:
            for outcome in PSC_OUTCOMES:
                self.psc_requests.labels(endpoint, outcome)
        self.psc_request_seconds = Histogram(
            PREFIX + "psc_request_seconds",
            "Time PSC took to answer",
            ("endpoint",),
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
            registry=self.registry,
        )
        for endpoint in PSC_ENDPOINTS:
            self.psc_request_seconds.labels(endpoint)
        self.ready = self._gauge("ready", "1 when configuration and store are open and PSC is known")
        self.psc_reachable = self._gauge("psc_reachable", "1 when PSC answered the last time it was asked")
        self.logins = self._gauge("logins", "Logins that this process holds in memory")
        self.keys_age = self._gauge("signing_keys_age_seconds", "Age of PSC's signing keys in use")
        self.clock_skew = self._gauge("clock_skew_seconds", "Our clock minus PSC's, by its Date header")
        self.audit_failing = self._gauge("audit_failing", "1 when the audit trail cannot be written")
        self._gauge("build_info", "Version", ("version",)).labels(__version__).set(1)

    def _counter(self, name: str, text: str, label: str, values: Iterable[str]) -> Counter:
        counter = Counter(PREFIX + name, text, (label,), registry=self.registry)
        for (
            value
        ) in values:  # present from the first scrape: a rate() over a counter that appears later loses its first step
            counter.labels(value)
        return counter

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(PREFIX + name, text, tuple(labels), registry=self.registry)

    def from_function(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Ask `value` at each scrape instead of being told of every change."""
        gauge.set_function(value)

    def psc_request(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Told by psc/client.py of every request it made; its two lists are ours (tests hold them equal)."""
        self.psc_requests.labels(endpoint, outcome).inc()
        self.psc_request_seconds.labels(endpoint).observe(seconds)

    def render(self) -> bytes:
        """The text exposition format 0.0.4."""
        return generate_latest(self.registry)
