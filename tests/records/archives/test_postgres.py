import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.logs_verify import verify
from proxy.entropy import SystemEntropy
from proxy.records.archives.postgres import PostgresArchive, postgres_lines
from proxy.records.chain_id import chain_id
from proxy.records.checkpoint_key import fingerprint
from proxy.records.copies import CopyUnreadable
from proxy.records.sinks.postgres import PostgresSink
from proxy.secret import Secret
from tests.records.chains import Writer, renamed, told, verdict
from tests.records.kept import kept, operation, record
from tests.records.postgres import PASSWORD, Postgres, execute
from tests.settings.support import PLAIN


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
    assert sorted((flaw.kind, flaw.instance, flaw.sequence) for flaw in found.findings) == [
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

    assert [flaw.kind for flaw in found.findings] == ["unclean"]
    assert {tuple(one.names): one.last for one in found.chains.values()} == {
        ("pod-b", "pod-a"): len(lines),
        ("pod-c",): len(other),
    }


def test_what_can_not_be_asked_is_said_without_the_url(postgres: Postgres) -> None:
    """A wrong password, and nobody there."""
    for url in (postgres.url(password="wrong"), Secret(f"postgresql://x:{PASSWORD}@127.0.0.1:1/y")):
        with pytest.raises(CopyUnreadable) as caught:
            list(postgres_lines(url))
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("", ""),
        ("UPDATE payproxy.records SET sent_upstream = 'no' WHERE sequence = 2", "sent_upstream is 'no' in the table"),
        ("UPDATE payproxy.records SET time = now() WHERE sequence = 2", "time is "),
        ("UPDATE payproxy.records SET instance = 'host-9' WHERE sequence = 2", "instance is 'host-9' in the table"),
        (
            "UPDATE payproxy.records SET route = 'x', side = 'legacy' WHERE sequence = 2",
            "side is 'legacy' in the table and 'modern'",
        ),
        ("DELETE FROM payproxy.lookups", "lookups lack what finds it by its index values"),
    ],
)
def test_what_hides_a_record_from_searches_is_found(postgres: Postgres, change: str, told: str) -> None:
    """A column or an index value was changed, and the record was not."""
    asyncio.run(execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE"))
    lines = kept([operation(), record(index=(("request-id", "r1"),)), record()])
    asyncio.run(store(postgres.url(), lines))
    if change:
        asyncio.run(execute(postgres.url(), change))

    found = [line.differs for line in postgres_lines(postgres.url()) if line.differs]

    assert len(found) == bool(change)
    assert told in "".join(found)


def test_two_instances_of_one_name_share_a_database(tmp_path: Path, postgres: Postgres) -> None:
    """Each verifies its own chain with its own key; the other's is verified by its key, which is said, until named."""
    asyncio.run(execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE"))
    writers = {}
    for name in ("a", "b"):
        folder = tmp_path / name
        (folder / "payproxy-data").mkdir(parents=True, mode=0o700)
        (folder / "url").write_text(postgres.url().reveal())
        (folder / "secret").write_text("s")
        for file in ("url", "secret"):
            (folder / file).chmod(0o600)
        (folder / "payproxy.toml").write_text(f'{PLAIN}\n[request_log]\ndatabase_file = "url"\n')
        chain = chain_id(folder / "payproxy-data", entropy=SystemEntropy())
        writers[name] = Writer(folder / "payproxy-data", chain=chain).start().exchanges(3).stop()
        asyncio.run(store(postgres.url(), writers[name].lines))

    def verified(name: str, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(verify, ["--config", str(tmp_path / name / "payproxy.toml"), *arguments])
        return done.exit_code, done.stdout

    public = writers["b"].key.public
    for name, other in (("a", "b"), ("b", "a")):
        code, told = verified(name)
        assert code == 0, told
        assert f"verified by its own key, fingerprint {fingerprint(writers[other].key.public)}" in told
        assert told.count("(this data directory's)") == 1
    (tmp_path / "b.pub").write_text(public)
    code, told = verified("a", "--key", str(tmp_path / "b.pub"))
    assert code == 0
    assert "(named by --key)" in told
    assert "verified by its own key" not in told

    one = json.loads(writers["b"].lines[2])["id"]
    asyncio.run(execute(postgres.url(), f"DELETE FROM payproxy.records WHERE id = '{one}'"))  # noqa: S608 - an id of the test's own
    code, told = verified("a")
    assert code == 1
    assert "record 3 is missing" in told


def test_what_is_pruned_is_told_chain_by_chain(tmp_path: Path, postgres: Postgres) -> None:
    """Two instances of one name: their numbers must not be taken for one chain's."""
    asyncio.run(execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE"))
    for name, exchanges in (("a", 3), ("b", 5)):
        (tmp_path / name).mkdir()
        lines = Writer(tmp_path / name, chain=name * 16).start().exchanges(exchanges).lines
        asyncio.run(store(postgres.url(), lines))

    async def stones() -> list[tuple[str, int, int]]:
        archive = PostgresArchive(postgres.url())
        try:
            found = [stone for month in await archive.months() for stone in (await archive.ranges(month))[1]]
        finally:
            await archive.close()
        return sorted((stone.chain, stone.first, stone.last) for stone in found)

    assert [stone for stone in asyncio.run(stones()) if stone[1] == 1] == [("a" * 16, 1, 1), ("b" * 16, 1, 1)]
    assert {chain for chain, *_ in asyncio.run(stones())} == {"a" * 16, "b" * 16}
