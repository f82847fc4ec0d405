"""What an operator sees of a migration: who moves, before and after, and what to do with the file in the end."""

from pathlib import Path

from proxy.migration.side import point
from proxy.simulator.server import Bank
from tests.journeys.caller import Request, ask
from tests.journeys.conftest import Start
from tests.journeys.evidence import records
from tests.journeys.migrated import migrated, migration
from tests.journeys.process import Process
from tests.journeys.waiting import until

CALLERS = [f"caller{number}" for number in range(8)]
LOWEST, *_, HIGHEST = sorted(CALLERS, key=lambda name: point("payments", name))


async def said(directory: Path, configuration: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit code of `payproxy migration` and all that it says to people."""
    process = await Process.run(directory, "-m", "proxy", "migration", *arguments, "--config", str(configuration))
    return await process.exit_code(), process.output


async def test_an_operator_moves_callers_and_goes_back(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Each command says who moves by name, with the requests of the log, and refuses what would move nobody."""
    configuration = migrated(tmp_path, bank, callers=CALLERS)
    instance = await start(configuration)
    for _ in range(3):
        answer = await ask(instance.address, Request(headers={"X-Payproxy-Key": LOWEST}))
        assert answer.status == 200
    await until(lambda: len(records(tmp_path)) == 3, otherwise="the log has no requests")
    weight = int(point("payments", LOWEST) * 100) + 1

    code, text = await said(tmp_path, configuration, "status")
    assert (code, "never changed" in text, "available" in text) == (0, True, True)
    code, text = await said(tmp_path, configuration, "set", "payments", "0", "--reason", "x")
    assert (code, "nobody moves" in text) == (1, True)

    async def counted() -> bool:
        # The database of the log gets its records a moment after the file.
        code, text = await said(tmp_path, configuration, "set", "payments", str(weight), "--reason", "first", "--force")
        assert code == 0, text
        if f"to modern: {LOWEST} (3 requests)" in text:
            assert "on modern: 0% before, 100% now, of 3 requests" in text
            return True
        assert (await migration(tmp_path, configuration, "rollback", "payments", "--reason", "again"))[0] == 0
        return False

    await until(counted, otherwise="the log did not tell who moves")
    code, text = await said(tmp_path, configuration, "status", "payments")
    assert f"weight {weight} (ramp)" in text
    assert ": first" in text
    code, text = await said(tmp_path, configuration, "set", "payments", "100", "--reason", "all")
    assert code == 0
    assert f"{HIGHEST} (no requests)" in text
    code, text = await said(tmp_path, configuration, "rollback", "payments", "--reason", "too soon")
    assert code == 0, text
    assert f"weight {weight} (ramp)" in text
    assert "to legacy: " in text
    assert HIGHEST in text.partition("to legacy: ")[2].partition("\n")[0]
    assert "a legacy token is available" in text
    code, text = await said(tmp_path, configuration, "rollback", "payments", "--to", "99", "--reason", "x")
    assert (code, "is not lower" in text) == (1, True)
    code, text = await said(tmp_path, configuration, "set", "payments", "50", "--release", LOWEST, "--reason", "x")
    assert (code, "does not keep on legacy" in text) == (1, True)
    code, text = await said(tmp_path, configuration, "finish", "payments", "--force", "--reason", "x")
    assert code == 0, text
    assert "delete [migrations.payments]" in text
    assert "SIGHUP" in text
