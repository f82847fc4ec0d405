"""`payproxy keys renew` killed at any moment, or run twice at a time: no key is lost, and the next run goes on."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.credentials.keys import belong_together, load_certificate, load_private_key
from tests.cli.killed import ended_before
from tests.cli.renewing import contents, renew
from tests.cli.serving import Site, command, make_pair, site


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    """A configuration whose certificate the bank knows."""
    async with site(tmp_path) as made:
        yield made


async def test_killed_between_the_two_files(place: Site) -> None:
    """The next run puts the certificate of the key into use."""
    await renew(place)
    made = contents(place.folder)
    (place.folder / "oauth.key.new").replace(place.folder / "oauth.key")
    code, said = await renew(place)

    assert code == 0, said
    assert (place.folder / "oauth.crt").read_bytes() == made["oauth.crt.new"]
    assert not (place.folder / "oauth.crt.new").exists()


async def test_two_runs_at_the_same_time(place: Site) -> None:
    """The second one ends at once and says why, while the first one waits for the bank; the old pair is kept."""
    before = contents(place.folder)
    await renew(place)
    place.register(before["oauth.crt"] + (place.folder / "oauth.crt.new").read_bytes())
    asked, answer = asyncio.Event(), asyncio.Event()

    async def token_endpoint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.close()

    async with await asyncio.start_server(token_endpoint, "127.0.0.1", 0) as slow:
        place.write(token_url=f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}/oauth2/token")
        first = asyncio.create_task(renew(place))
        await asked.wait()
        code, said = await renew(place)
        answer.set()
        await first
    assert code == 1
    assert f"another `keys renew` is at work in {place.folder}" in said

    place.write()
    code, said = await renew(place)
    assert code == 0, said
    assert contents(place.folder)["oauth.key.old"] == before["oauth.key"]


# The first run creates two files, links them and removes their temporary names; the second one removes an older .old,
# links the last file to that name and renames the next one, twice.
_CHANGES = 6


@pytest.mark.thorough
@pytest.mark.parametrize("change", range(_CHANGES + 1))
@pytest.mark.parametrize("run", ["first", "second"])
async def test_killed_at_any_moment(place: Site, run: str, change: int) -> None:
    """Killed before each change of a file, the command goes on when it is run again, and the old pair is kept."""
    before, made = contents(place.folder), place.folder / "oauth.crt.new"
    arguments = ("keys", "renew", "login", "--config", place.config)
    if run == "second":
        await renew(place)
        place.register(before["oauth.crt"] + made.read_bytes())
    ended = await ended_before(change, "oauth.", *arguments, number=signal.SIGKILL, cwd=place.folder)
    assert ended == (-signal.SIGKILL if change < _CHANGES else 0)

    said = ""
    while contents(place.folder)["oauth.crt"] == before["oauth.crt"]:
        if made.exists():
            place.register(before["oauth.crt"] + made.read_bytes())
        code, said = await renew(place)
        assert code == 0, said
    after = contents(place.folder)
    assert set(after) == {"oauth.crt", "oauth.crt.old", "oauth.key", "oauth.key.old"}, said
    assert (after["oauth.key.old"], after["oauth.crt.old"]) == (before["oauth.key"], before["oauth.crt"])
    key = load_private_key(place.folder / "oauth.key")
    assert belong_together(key, load_certificate(place.folder / "oauth.crt"))
    assert not list(place.folder.glob(".oauth*"))


async def test_serve_says_how_to_finish_a_renewal(place: Site) -> None:
    """Between the two files of a killed run the pair does not belong together; the same command mends that."""
    await renew(place)
    (place.folder / "oauth.key.new").replace(place.folder / "oauth.key")

    for name, expected in (("check", 1), ("serve", 78)):
        done = await command(name, "--config", place.config)
        assert done.exit_code == expected
        assert "`payproxy keys renew login` was interrupted; run it again" in " ".join(
            (done.stdout + done.stderr).split()
        )


async def test_files_that_an_older_version_left_half_written(place: Site) -> None:
    """What can't be used is named, with what to do."""
    (place.folder / "oauth.key.new").touch(mode=0o600)
    code, said = await renew(place)
    assert (code, "oauth.key.new: is empty" in said, "remove it, and run this again" in said) == (1, True, True), said
    (place.folder / "oauth.key.new").unlink()
    make_pair(place.folder, "other")
    (place.folder / "other.key").replace(place.folder / "oauth.key.new")
    (place.folder / "oauth.crt.new").touch()
    code, said = await renew(place)
    assert (code, "oauth.crt.new: is empty" in said, "remove it, and run this again" in said) == (1, True, True), said
    make_pair(place.folder, "another")
    (place.folder / "another.crt").replace(place.folder / "oauth.crt.new")
    code, said = await renew(place)
    assert (code, "oauth.crt.new belongs to another key than" in said) == (1, True), said
