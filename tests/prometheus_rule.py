"""Writes the rules of ops/prometheus as a PrometheusRule: `python -m tests.prometheus_rule`.

    ops/prometheus/rules.yml ──> ops/kubernetes/components/monitoring/prometheusrule.yaml

Prometheus reads the one, its operator the other, and kustomize cannot make a resource of a file
that is none. `make docs` runs this.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

OPS = Path(__file__).parents[1] / "ops"
RULES = OPS / "prometheus" / "rules.yml"
TARGET = OPS / "kubernetes" / "components" / "monitoring" / "prometheusrule.yaml"

_HEAD = """# Made from ops/prometheus/rules.yml by `make docs`; a test fails when it is stale.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: pagesight
  labels: {app.kubernetes.io/name: pagesight}
spec:
"""


def prometheus_rule() -> str:
    """The resource, as YAML: the rules word for word, comments too."""
    return _HEAD + textwrap.indent(RULES.read_text("utf-8"), "  ")


if __name__ == "__main__":
    TARGET.write_text(prometheus_rule(), "utf-8")
