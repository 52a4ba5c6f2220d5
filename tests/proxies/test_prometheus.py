"""deploy/prometheus: accepted by promtool, each alert proved both ways, and every metric named there is one that we have."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from proxies.nginx import DEPLOY

from forward_auth.metrics import RENEWAL_OUTCOMES, SIGN_IN_OUTCOMES, SIGN_OUT_CAUSES, Metrics

HERE = Path(__file__).parent
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: apt install prometheus)"
)


def promtool(*arguments: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_scrape_configuration() -> None:
    """Prometheus reads the file and finds its rules."""
    assert "1 rule files found" in promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


@needs_promtool
def test_alerts_unit() -> None:
    """Each alert fires when it should and keeps quiet when it should not (alerts_test.yml)."""
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_tested() -> None:
    """No alert without its quiet and its loud day."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    days = yaml.safe_load((HERE / "alerts_test.yml").read_text())["tests"]
    names = {rule["alert"] for rule in rules}
    assert names == {test["alertname"] for test in days[0]["alert_rule_test"]}
    loud = {
        sample["labels"] for day in days for one in day.get("promql_expr_test", ()) for sample in one["exp_samples"]
    }
    assert {f'{{alertname="{name}"}}' for name in names} == loud
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert {"summary", "description"} == set(rule["annotations"])


def test_metrics_exist() -> None:
    """Every metric, label and label value in the alerts is one the service really shows."""
    shown = Metrics(("nginx",), ("a",)).render().decode()
    series = {line.split("{")[0].split(" ")[0] for line in shown.splitlines() if not line.startswith("#")}
    expressions = [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    named = {name for expression in expressions for name in re.findall(r"psc_forward_auth_\w+", expression)}
    assert len(named) >= 9
    assert set() == named - series
    known = set(re.findall(r'(?:outcome|cause|operation)="([a-z_]+)"', shown))
    assert set(RENEWAL_OUTCOMES) | set(SIGN_IN_OUTCOMES) | set(SIGN_OUT_CAUSES) <= known
    for expression in expressions:
        for words in re.findall(r'outcome(?:=|=~|!~)"([a-z_|]+)"', expression):
            assert set() == set(words.split("|")) - known, expression
