import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Answer, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import records
from tests.journeys.logs import verified
from tests.journeys.process import Instance
from tests.journeys.support import configured
from tests.journeys.waiting import until

# Segments of the journal then have 8 KiB, some ten payments.
SPOOL_BYTES = 262144


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB where the data directory is going to be."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", str(directory)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)  # noqa: S607 - the machine's umount


async def test_nothing_is_sent_while_the_disk_of_the_journal_is_full(
    tmp_path: Path, bank: Bank, small_disk: Path, start: Start
) -> None:
    """The disk fills up: 503 log_unavailable and nothing sent, reads neither; with space again service by itself."""
    log = f"stdout = false\nspool_bytes = {SPOOL_BYTES}"
    instance = await start(configured(tmp_path, bank.url, request_log=log))
    answers = [await ask(instance.address, payment("before"))]
    assert answers[0].status == 201

    _fill(small_disk / "filler")
    answers += await _pay_until_refused(instance)

    refused = answers[-1]
    assert (refused.json["code"], refused.json["sent_upstream"]) == ("log_unavailable", "no")
    assert refused.json["retryable"]
    assert int(refused.headers["retry-after"]) >= 1
    # The keeper may give space back at any time: a refusal is followed by others until it does.
    sent = len(bank.world.seen("/payment"))
    tried = [await ask(instance.address, payment(f"full-{number}")) for number in range(20)]
    tried.append(await get(instance.address, "/payment/helloworld"))
    assert {answer.status for answer in tried} == {503}
    assert {answer.json["code"] for answer in tried} == {"log_unavailable"}
    assert len(bank.world.seen("/payment")) == sent
    await until(lambda: _unready(instance), otherwise="/readyz did not tell")

    (small_disk / "filler").unlink()

    async def back() -> bool:
        return (await ask(instance.address, payment("after"))).status in (200, 201)

    await until(back, otherwise="service did not begin again")
    await until(instance.is_ready, otherwise="it did not become ready again")
    assert (await get(instance.address, "/payment/helloworld")).status == 200
    assert bank.world.accepted["after"] == 1
    # The records of what was refused were kept in memory meanwhile, and nothing was lost.
    ids = {answer.request_id for answer in answers + tried}
    await until(lambda: ids <= {each["id"] for each in records(tmp_path)}, otherwise="records are missing")
    assert await instance.stop() == 0


async def test_a_start_on_a_read_only_disk_says_so(tmp_path: Path, bank: Bank, small_disk: Path, start: Start) -> None:
    """Remounted read-only between two runs: it does not serve, and says why; remounted back, nothing is lost."""
    configuration = configured(tmp_path, bank.url, request_log=f"stdout = false\nspool_bytes = {SPOOL_BYTES}")
    first = await start(configuration)
    answers = [await ask(first.address, payment("before"))]
    # While a journal is open the kernel refuses it.
    assert not _remounted(small_disk, "ro")
    assert await first.stop() == 0

    assert _remounted(small_disk, "ro")
    refused = await Instance.run(tmp_path, "-m", "proxy", "serve", "--config", str(configuration))
    assert await refused.exit_code() != 0
    assert str(small_disk) in " ".join(refused.output.split())
    assert "mount it for reading and writing" in " ".join(refused.output.split())
    assert "Traceback" not in refused.output

    assert _remounted(small_disk, "rw")
    second = await start(configuration)
    answers.append(await ask(second.address, payment("after")))
    assert [answer.status for answer in answers] == [201, 201]
    assert await second.stop() == 0
    assert [each["id"] for each in records(tmp_path)] == [answer.request_id for answer in answers]
    code, value = await verified(tmp_path, "--config", str(configuration))
    assert code == 0, value


def _remounted(directory: Path, how: str) -> bool:
    command = ["mount", "-o", f"remount,{how}", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


async def _pay_until_refused(instance: Instance) -> list[Answer]:
    """Pay until that is refused: first the preallocated reserve is used up, then there is no other."""
    answers: list[Answer] = []
    while not answers or answers[-1].status == 201:
        answers.append(await ask(instance.address, payment(f"reserve-{len(answers)}")))
        assert len(answers) < 1000
    return answers


async def _unready(instance: Instance) -> bool:
    answer = await get(instance.admin, "/readyz")
    return answer.status == 503 and b"journal" in answer.body
