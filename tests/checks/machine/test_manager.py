from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.checks.machine.line import Line, Status
from proxy.checks.machine.manager import PROPERTIES, manager_lines, seconds

RIGHT = {
    "LoadState": "loaded", "Type": "notify", "TimeoutStopUSec": "3min 50s", "StateDirectory": "payproxy",
    "WatchdogUSec": "1min", "Restart": "on-failure", "User": "", "DynamicUser": "yes",
}  # fmt: skip


def lines(properties: Mapping[str, str] | None, tmp_path: Path, **environ: str) -> list[Line]:
    """Return the lines for a time-out of 200 s on a machine that is no container."""
    return list(manager_lines(properties, environ, exchange_timeout=200.0, root=tmp_path))


def test_a_unit_that_fits_has_no_finding(tmp_path: Path) -> None:
    """These are the values of the unit that `export systemd` prints."""
    assert set(RIGHT) == set(PROPERTIES)
    (line,) = lines(RIGHT, tmp_path)
    assert line.status is Status.OK


@pytest.mark.parametrize(
    ("changes", "status", "fix"),
    [
        ({"TimeoutStopUSec": "1min 30s"}, Status.ERROR, "TimeoutStopSec=230"),
        ({"StateDirectory": ""}, Status.WARNING, "StateDirectory=payproxy"),
        ({"Type": "simple"}, Status.WARNING, "Type=notify"),
        ({"Restart": "no"}, Status.WARNING, "Restart=on-failure"),
        ({"WatchdogUSec": "0"}, Status.WARNING, "WatchdogSec=60"),
        ({"DynamicUser": "no"}, Status.WARNING, "DynamicUser=yes"),
        ({"DynamicUser": "no", "User": "root"}, Status.WARNING, "DynamicUser=yes"),
    ],
)
def test_what_is_set_wrong_in_the_unit(tmp_path: Path, changes: dict[str, str], status: Status, fix: str) -> None:
    """Each has the line for `systemctl edit`."""
    (line,) = lines(RIGHT | changes, tmp_path)
    assert line.status is status
    assert f"`systemctl edit payproxy.service`: [Service] {fix}" in line.fix


def test_what_is_right_though_it_differs(tmp_path: Path) -> None:
    """No limit for the stop, and a user of its own that always exists."""
    for changes in ({"TimeoutStopUSec": "infinity"}, {"DynamicUser": "no", "User": "payproxy"}):
        (line,) = lines(RIGHT | changes, tmp_path)
        assert line.status is Status.OK, line


def test_where_there_is_no_unit(tmp_path: Path) -> None:
    """Without systemd or the unit nothing is claimed; a pod and a container are told how long a stop takes."""
    assert [line.status for line in lines(None, tmp_path)] == [Status.SKIPPED]
    assert [line.status for line in lines({"LoadState": "not-found"}, tmp_path)] == [Status.SKIPPED]
    (pod,) = lines(None, tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert "terminationGracePeriodSeconds: 230" in pod.what
    (tmp_path / ".dockerenv").touch()
    (container,) = lines(None, tmp_path)
    assert "docker stop -t 230" in container.what


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3min 50s", 230.0), ("1h 500ms", 3600.5), ("0", 0.0), ("infinity", None), ("", None), ("1d", 86400.0)],
)
def test_time_spans_of_systemd(text: str, expected: float | None) -> None:
    """systemd.time(7)."""
    assert seconds(text) == expected
