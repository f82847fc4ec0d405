"""What runs the service: a systemd unit, Kubernetes or a container, and what is set wrong there."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.checks.container import in_container
from proxy.checks.machine.line import Line, error, skipped, warning

UNIT = "payproxy.service"
PROPERTIES = (
    *("LoadState", "Type", "TimeoutStopUSec", "StateDirectory", "WatchdogUSec", "Restart"),
    *("User", "DynamicUser"),
)
# What `serve` needs to stop beyond exchange_timeout (proxy.export.systemd).
STOP_SECONDS = 30
_ASK_SECONDS = 5
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_EXPORT = "`payproxy export systemd` prints the unit that fits"
_OVERRIDE = f"`systemctl edit {UNIT}`: [Service] {{line}}; {_EXPORT}"


def unit_properties() -> dict[str, str] | None:
    """Return the properties of payproxy.service as systemd has them, None where systemd does not run or answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").is_dir():
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the path is systemctl's
            [systemctl, "show", UNIT, f"--property={','.join(PROPERTIES)}"],
            capture_output=True, text=True, timeout=_ASK_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def manager_lines(
    properties: Mapping[str, str] | None, environ: Mapping[str, str], *, exchange_timeout: float, root: Path = Path("/")
) -> Iterator[Line]:
    """Yield what is set wrong in what runs the service; *properties* as `unit_properties` returns them.

    *exchange_timeout* is the setting in seconds, which a stop may take.
    """
    if "KUBERNETES_SERVICE_HOST" in environ:
        grace = f"terminationGracePeriodSeconds: {int(exchange_timeout) + STOP_SECONDS}"
        yield Line(check="service manager", what=f"Kubernetes; its grace period can't be seen from here: set {grace}")
        return
    if in_container(environ, pid=1, root=root):
        stop = int(exchange_timeout) + STOP_SECONDS
        what = (
            f"a container; its time to stop can't be seen from here: give it {stop} s, by `docker stop -t {stop}` or "
            f"Compose's `stop_grace_period: {stop}s`"
        )
        yield Line(check="service manager", what=what)
        return
    if properties is None:
        yield skipped("service manager", "systemd does not run here")
    elif properties.get("LoadState") != "loaded":
        yield skipped("service manager", f"there is no {UNIT}; {_EXPORT}")
    else:
        findings = list(_unit_findings(properties, exchange_timeout=exchange_timeout))
        yield from findings or [Line(check="service manager", what=f"{UNIT} fits this configuration")]


def _unit_findings(unit: Mapping[str, str], *, exchange_timeout: float) -> Iterator[Line]:
    needed, stop = exchange_timeout + STOP_SECONDS, seconds(unit.get("TimeoutStopUSec", ""))
    if stop is not None and stop < needed:
        what = f"TimeoutStopSec is {stop:g} s: a stop may take {needed:g} s, and what is in flight then is unknown"
        yield error("service manager", what, _OVERRIDE.format(line=f"TimeoutStopSec={needed:.0f}"))
    if not unit.get("StateDirectory"):
        what = "there is no StateDirectory, which makes the data directory for the service's user"
        yield warning("service manager", what, _OVERRIDE.format(line="StateDirectory=payproxy"))
    if unit.get("Type") not in {"notify", "notify-reload"}:
        what = f"Type={unit.get('Type')}: systemd takes the service for started before it serves"
        yield warning("service manager", what, _OVERRIDE.format(line="Type=notify"))
    if unit.get("Restart") in {"no", ""}:
        what = "Restart=no: after a crash it stays down"
        yield warning("service manager", what, _OVERRIDE.format(line="Restart=on-failure"))
    if seconds(unit.get("WatchdogUSec", "")) == 0:
        what = "there is no watchdog: a service that hangs is not restarted"
        yield warning("service manager", what, _OVERRIDE.format(line="WatchdogSec=60"))
    if unit.get("User") in {"", "root"} and unit.get("DynamicUser") != "yes":
        yield warning("service manager", "the service runs as root", _OVERRIDE.format(line="DynamicUser=yes"))


def seconds(text: str) -> float | None:
    """Return the seconds of systemd's time span, as in "3min 30s" (systemd.time(7)); None for none or "infinity"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w)\b", text)
    if text == "0":
        return 0.0
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else None
