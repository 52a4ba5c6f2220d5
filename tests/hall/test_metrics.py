"""Prometheus hears the names of the public contract, with labels that only the configuration can add to."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forward_auth import __version__, metrics
from forward_auth.metrics import OUTCOMES, PREFIX, Metrics
from forward_auth.psc import client

PACKAGE = Path(metrics.__file__).parent
DIALECTS = ("nginx", "forward")


def samples(made: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name without prefix, labels) -> value."""
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(made.render().decode())
        for sample in family.samples
    }


def names(made: Metrics) -> set[str]:
    return {name for name, _ in samples(made)}


def values(made: Metrics, name: str, label: str) -> set[str]:
    return {dict(labels)[label] for each, labels in samples(made) if each == name}


def test_every_metric_of_the_contract_is_there_from_the_start() -> None:
    """Contract §7, each with its labels, before anything has happened."""
    made = Metrics(DIALECTS, ["dossier"])
    contract = {
        "checks_total": {"dialect", "app", "outcome"},
        "check_seconds_count": set(),
        "sign_ins_total": {"outcome"},
        "sign_outs_total": {"cause"},
        "renewals_total": {"outcome"},
        "psc_requests_total": {"endpoint", "outcome"},
        "psc_request_seconds_count": {"endpoint"},
        "logins": set(),
        "signing_keys_age_seconds": set(),
        "clock_skew_seconds": set(),
        "store_errors_total": {"operation"},
        "ready": set(),
        "build_info": {"version"},
    }
    found = {name: {label for label, _ in labels} for name, labels in samples(made)}
    assert contract == {name: found.get(name) for name in contract}
    assert 1 == samples(made)["build_info", (("version", __version__),)]


def test_checks_are_counted_by_dialect_app_and_outcome() -> None:
    """A cell for each, and for the unknown host `app=""` (decision 40)."""
    made = Metrics(DIALECTS, ["dossier"])
    made.checks.cells["nginx"]["allowed"]["dossier"] += 3
    key = "checks_total", (("app", "dossier"), ("dialect", "nginx"), ("outcome", "allowed"))
    assert 3 == samples(made)[key]
    assert set(OUTCOMES) == values(made, "checks_total", "outcome")
    assert {"", "dossier"} == values(made, "checks_total", "app")
    assert len(DIALECTS) * len(OUTCOMES) * 2 == sum(name == "checks_total" for name, _ in samples(made))


def test_counts_survive_a_new_configuration() -> None:
    """A counter that goes back is a restart to Prometheus."""
    made = Metrics(DIALECTS, ["dossier"])
    made.checks.cells["nginx"]["allowed"]["dossier"] += 3
    made.checks.know(["radio", "dossier"])
    made.checks.know(["radio"])
    assert {"", "dossier", "radio"} == values(made, "checks_total", "app")
    key = "checks_total", (("app", "dossier"), ("dialect", "nginx"), ("outcome", "allowed"))
    assert 3 == samples(made)[key]


def test_a_request_to_psc_is_counted_and_timed() -> None:
    """By endpoint and outcome."""
    made = Metrics(DIALECTS, [])
    before = len(samples(made))
    made.psc_request("token", "ok", 0.2)
    found = samples(made)
    assert 1 == found["psc_requests_total", (("endpoint", "token"), ("outcome", "ok"))]
    assert 0.2 == found["psc_request_seconds_sum", (("endpoint", "token"),)]
    assert before == len(found)


def test_a_gauge_may_ask_at_each_scrape() -> None:
    """Instead of being told of every change."""
    made = Metrics(DIALECTS, [])
    logins = [7]
    made.from_function(made.logins, lambda: logins[0])
    assert 7 == samples(made)["logins", ()]
    logins[0] = 9
    assert 9 == samples(made)["logins", ()]


def test_two_processes_worth_of_metrics_do_not_meet() -> None:
    """A registry of their own, nothing global."""
    one, two = Metrics(DIALECTS, []), Metrics(DIALECTS, [])
    one.sign_ins.labels("success").inc()
    assert 0 == samples(two)["sign_ins_total", (("outcome", "success"),)]


def test_the_words_of_the_client_of_psc_are_the_metrics_own() -> None:
    """It counts under these; the hall may not import it, so the two lists are held equal here."""
    assert (client.ENDPOINTS, client.OUTCOMES) == (metrics.PSC_ENDPOINTS, metrics.PSC_OUTCOMES)


def label_values(method: str) -> Iterable[tuple[str, str]]:
    """Every literal that the program gives as a label to `….method.labels(…)`: (file, value)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "labels"
                and isinstance(node.func.value, ast.Attribute)
                and node.func.value.attr == method
            ):
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield path.name, argument.value


@pytest.mark.parametrize(
    ("method", "known"),
    [
        ("sign_ins", metrics.SIGN_IN_OUTCOMES),
        ("sign_outs", metrics.SIGN_OUT_CAUSES),
        ("renewals", metrics.RENEWAL_OUTCOMES),
        ("store_errors", metrics.STORE_OPERATIONS),
        ("psc_requests", (*metrics.PSC_ENDPOINTS, *metrics.PSC_OUTCOMES)),
    ],
)
def test_the_cardinality_is_fixed(method: str, known: tuple[str, ...]) -> None:
    """No place in the program counts under a word that was not there from the first scrape."""
    assert [] == [(file, value) for file, value in label_values(method) if value not in known]
    if method in ("renewals", "store_errors"):
        assert list(label_values(method))  # the test looks at something
