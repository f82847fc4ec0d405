"""The chart, rendered by the real helm."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "payproxy"

# Value sets by name; a later file overrides an earlier one.
VALUE_SETS = {
    "minimal": ["minimal"],
    "replicas": ["replicas"],
    "everything": ["replicas", "everything"],
}


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm, which has no cluster here."""
    return subprocess.run(
        [program("helm"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def value_files(values: str) -> list[str]:
    """Return the options that pass the value set of this name."""
    return [option for name in VALUE_SETS[values] for option in ("-f", str(CHART / "ci" / f"{name}-values.yaml"))]


def render(*options: str, values: str = "minimal") -> list[dict[str, Any]]:
    """Return the manifests of a release "pay" in the namespace "payments"."""
    done = helm("template", "pay", CHART, "--namespace", "payments", *value_files(values), *options)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refusal(*options: str, values: str = "minimal") -> str:
    """Return why helm refuses these values."""
    done = helm("template", "pay", CHART, *value_files(values), *options)
    assert done.returncode != 0, "it was rendered"
    return done.stderr


def only(documents: Sequence[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """Return the one manifest of *kind*, and of *name* if there are several."""
    found = [one for one in documents if one["kind"] == kind and (not name or one["metadata"]["name"] == name)]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the specification of the replicas' pods."""
    specification: dict[str, Any] = only(documents, "StatefulSet")["spec"]["template"]["spec"]
    return specification


def container(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return payproxy's container."""
    (one,) = pod(documents)["containers"]
    specification: dict[str, Any] = one
    return specification


def config(values: str = "minimal") -> str:
    """Return the payproxy.toml of a value set."""
    text: str = yaml.safe_load((CHART / "ci" / f"{values}-values.yaml").read_text())["config"]
    return text
