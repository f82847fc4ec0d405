"""What the chart renders is laid out as the kubelet does, and payproxy runs on it as the pod's user."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import MOCK_CLIENT_ID, MOCK_CLIENT_SECRET
from proxy.simulator.server import simulator
from tests.deploy.pod import USER, Pod
from tests.deploy.support import config, container, only, program, render
from tests.journeys.caller import get
from tests.journeys.process import Instance

# Its SHA-256 is in ci/minimal-values.yaml.
CALLER_KEY = "foo"


@pytest.fixture
async def minimal() -> AsyncIterator[Pod]:
    """Lay out the pod of ci/minimal-values.yaml in a folder that its user may enter, with the simulator as the bank."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a process as the pod's user")
    program("setpriv")
    root = _open_folder()
    try:
        async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
            client = f'client_id = "{MOCK_CLIENT_ID}"\ntoken_url = "{bank.url}/am/oauth2/alpha/access_token"'
            text = config().replace("https://api-mock.payments.jpmorgan.com", bank.url)
            text = text.replace('client_id = "client-of-a-test"', client)
            manifests = render("--set-literal", f"config={text}")
            yield Pod(root, manifests, {"payproxy-client": {"client-secret": MOCK_CLIENT_SECRET}})
    finally:
        shutil.rmtree(root)


async def test_a_rendered_pod_checks_serves_and_stops(minimal: Pod) -> None:
    """`check` finds no error, a caller is served, the commands of probes and test pass, and it stops in order."""
    checked = await asyncio.to_thread(minimal.run, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    async with minimal.serving() as instance:
        answer = await get(instance.address, "/payment/helloworld", {"X-Payproxy-Key": CALLER_KEY})
        assert answer.status == 200, answer.body
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            _, *arguments = container(minimal.manifests)[probe]["exec"]["command"]
            probed = await asyncio.to_thread(minimal.run, *arguments)
            assert probed.returncode == 0, probed.stderr
        tested = await asyncio.to_thread(_helm_test, minimal, instance)
        assert tested.returncode == 0, tested.stderr
        assert (minimal.data.stat().st_uid, minimal.data.stat().st_mode & 0o777) == (USER, 0o700)
        assert await instance.stop() == 0, instance.output


def _open_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="payproxy-pod-"))
    folder.chmod(0o755)
    return folder


def _helm_test(minimal: Pod, instance: Instance) -> subprocess.CompletedProcess[str]:
    """Run what `helm test` runs for a replica, in a pod that has neither configuration nor data."""
    containers = only(render(values="replicas"), "Pod")["spec"]["containers"]
    (ready,) = [one for one in containers if one["name"] == "ready-0"]
    (variable,) = ready["env"]
    nothing = {"PAYPROXY_CONFIG": "", "STATE_DIRECTORY": ""}
    return minimal.run(*ready["args"], **nothing, **{variable["name"]: "{}:{}".format(*instance.admin)})


async def test_a_volume_whose_files_the_group_may_write_is_refused(minimal: Pod) -> None:
    """With Kubernetes' default fsGroupChangePolicy "Always" that is so at each start: the chart says OnRootMismatch."""
    async with minimal.serving() as instance:
        assert await instance.stop() == 0, instance.output
    for path in [minimal.data, *minimal.data.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o2770 if path.is_dir() else 0o660))

    again = await asyncio.to_thread(minimal.run, "serve")

    assert again.returncode != 0
    assert str(minimal.data) in again.stderr
    assert "chmod" in again.stderr
