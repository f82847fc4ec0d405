import asyncio
import json
from pathlib import Path

import pytest

from proxy.records.archives.postgres_chain import postgres_lines
from proxy.records.copies import CopyUnreadable
from proxy.records.sinks.postgres import PostgresSink
from proxy.secret import Secret
from tests.records.chains import Writer, renamed, told, verdict
from tests.records.postgres import PASSWORD, Postgres, execute


async def store(url: Secret, lines: list[bytes]) -> None:
    """Write *lines* as the sink does."""
    sink = PostgresSink(url)
    await sink.write(lines)
    await sink.close()


def test_the_chains_of_all_instances_are_checked(tmp_path: Path, postgres: Postgres) -> None:
    """In whichever order they came; what somebody changed or deleted in the table is named."""
    with pytest.raises(CopyUnreadable, match="no records yet"):
        list(postgres_lines(postgres.url()))
    one = Writer(tmp_path, instance="host-1").start().exchanges(4).stop().lines
    two = Writer(tmp_path, instance="host-2").start().exchanges(3).stop().lines
    asyncio.run(store(postgres.url(), [*two[:4], *one[3:], *one[:3]]))
    asyncio.run(store(postgres.url(), [*two[2:], *one[:2]]))

    assert sorted(line.text for line in postgres_lines(postgres.url())) == sorted(one + two)
    assert told(verdict([line.text for line in postgres_lines(postgres.url())])) == []

    victim, gone = json.loads(one[2])["id"], json.loads(two[3])["id"]
    changed = one[2].replace(b'"status":200', b'"status":201').decode().replace("'", "''")
    statements = (
        f"UPDATE payproxy.records SET record = '{changed}' WHERE id = '{victim}';"  # noqa: S608 - the test's own ids
        f"DELETE FROM payproxy.records WHERE id = '{gone}'"
    )
    asyncio.run(execute(postgres.url(), statements))

    found = verdict([line.text for line in postgres_lines(postgres.url())])
    assert sorted((flaw.fault, flaw.instance, flaw.sequence) for flaw in found.flaws) == [
        ("changed", "host-1", 3),
        ("missing", "host-2", 4),
    ]


def test_a_chain_goes_on_under_another_name(tmp_path: Path, postgres: Postgres) -> None:
    """Beside that of another instance, whichever name sorts first."""
    lines = renamed(tmp_path)
    (tmp_path / "other").mkdir()
    other = Writer(tmp_path / "other", instance="pod-c").start().exchanges(5).stop().lines
    asyncio.run(execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE"))
    asyncio.run(store(postgres.url(), [*other, *lines]))

    found = verdict([line.text for line in postgres_lines(postgres.url())])

    assert [flaw.fault for flaw in found.flaws] == ["unclean"]
    assert {tuple(one.names): one.check.last for one in found.instances.values()} == {
        ("pod-b", "pod-a"): len(lines),
        ("pod-c",): len(other),
    }


def test_what_can_not_be_asked_is_said_without_the_url(postgres: Postgres) -> None:
    """A wrong password, and nobody there."""
    for url in (postgres.url(password="wrong"), Secret(f"postgresql://x:{PASSWORD}@127.0.0.1:1/y")):
        with pytest.raises(CopyUnreadable) as caught:
            list(postgres_lines(url))
        assert PASSWORD not in str(caught.value)
