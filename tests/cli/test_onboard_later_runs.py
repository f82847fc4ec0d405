"""Later runs of `onboard`: they go on after an end at any moment, and change what can be changed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.simulator.clients import JWT_CLIENT_ID, MOCK_CLIENT_ID, MOCK_CLIENT_SECRET
from tests.cli.killed import ended_before
from tests.cli.onboarding import SUBJECT, Onboarding, Person, answered, mode, onboarding_in
from tests.cli.support import PAYPROXY, environment


@pytest.fixture
async def onboarding(tmp_path: Path) -> AsyncIterator[Onboarding]:
    """Give an empty folder and a bank."""
    async with onboarding_in(tmp_path) as place:
        yield place


async def test_a_later_run_goes_on_and_changes_nothing(onboarding: Onboarding) -> None:
    """Who gave up takes the same command again: key, certificate and configuration stay as they are."""
    code, _, err = await onboarding.run(*onboarding.options(), "--wait=0")
    assert (code, "goes on from here" in err) == (1, True)
    before = {path.name: path.read_bytes() for path in onboarding.folder.iterdir()}
    assert set(before) == {"oauth.key", "oauth.crt", "payproxy.toml"}
    onboarding.upload()

    code, out, err = await onboarding.run()

    assert (code, answered(out)) == (0, True), err
    assert {path.name: path.read_bytes() for path in onboarding.folder.iterdir()} == before


async def test_another_value_needs_a_yes(onboarding: Onboarding) -> None:
    """An option that contradicts the file changes it only with --yes, and nothing but that value."""
    await onboarding.run(*onboarding.options(client_id="wrong"), "--wait=0")
    onboarding.upload()
    before = (onboarding.folder / "payproxy.toml").read_text()

    code, _, err = await onboarding.run(f"--client-id={JWT_CLIENT_ID}", "--wait=0")
    assert (code, "--yes" in err) == (2, True)
    assert (onboarding.folder / "payproxy.toml").read_text() == before
    code, out, err = await onboarding.run(f"--client-id={JWT_CLIENT_ID}", "--wait=0", "--yes")

    assert (code, answered(out)) == (0, True), err
    assert (onboarding.folder / "payproxy.toml").read_text() == before.replace('"wrong"', f'"{JWT_CLIENT_ID}"')


# A key, a certificate and the configuration, each created, linked and without its temporary name.
_CHANGES = 9


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("number", "change"),
    [*((signal.SIGKILL, change) for change in range(_CHANGES + 1)), (signal.SIGINT, 1), (signal.SIGINT, 7)],
)
async def test_an_end_at_any_moment_leaves_what_a_later_run_needs(
    onboarding: Onboarding, number: int, change: int
) -> None:
    """Killed or interrupted before each change of a file, the same command goes on, and makes the first call."""
    arguments = (*onboarding.options(), "--wait=0")
    folder = onboarding.folder
    ended = await ended_before(change, f"{folder}/", "onboard", *arguments, number=number, cwd=folder)
    expected = -signal.SIGKILL if number == signal.SIGKILL else 130
    assert ended == (expected if change < _CHANGES else 1)

    code, _, err = await onboarding.run(*arguments)
    assert (code, "goes on from here" in err) == (1, True), err
    onboarding.upload()
    code, out, err = await onboarding.run()
    assert (code, answered(out)) == (0, True), err
    assert {path.name for path in folder.glob("[!.]*")} == {"oauth.key", "oauth.crt", "payproxy.toml"}


async def test_a_configuration_without_its_pair_gets_one(onboarding: Onboarding) -> None:
    """What `init` has written, or an older version before it was interrupted, is completed."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    for name in ("oauth.key", "oauth.crt"):
        (onboarding.folder / name).unlink()
    code, _, err = await onboarding.run("--wait=0")
    assert (code, "give --subject" in err) == (2, True), err
    code, _, err = await onboarding.run(f"--subject={SUBJECT}", "--wait=0")
    assert (code, "goes on from here" in err) == (1, True), err
    onboarding.upload()
    code, out, err = await onboarding.run()
    assert (code, answered(out)) == (0, True), err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--environment=production", "payproxy.toml is for client-testing, and every environment needs"),
        ("--flavor=basic", "has the flavor jwt; for basic begin in another folder"),
        ("--flavor=adfs", "has the flavor jwt; for adfs begin in another folder"),
        (f"--subject={SUBJECT}x", "oauth.crt is there with another subject"),
    ],
)
async def test_what_a_later_run_can_not_change_is_refused(onboarding: Onboarding, option: str, words: str) -> None:
    """Whether --yes is given or not; nothing is changed, and the values that are there may be said again."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    before = {path.name: path.read_bytes() for path in onboarding.folder.iterdir()}
    onboarding.upload()

    code, out, err = await onboarding.run(option, "--client-id=other", "--yes", "--wait=0")

    assert (code, words in " ".join(err.split())) == (2, True), err
    assert {path.name: path.read_bytes() for path in onboarding.folder.iterdir()} == before
    same = (*onboarding.options(), "--environment=client-testing")
    code, out, err = await onboarding.run(*same, "--wait=0")
    assert (code, answered(out)) == (0, True), err


async def test_a_wrong_client_secret_is_replaced(onboarding: Onboarding) -> None:
    """The file is named; another secret needs a yes; a file that was removed is written again."""
    onboarding.flavor, onboarding.client_id = "basic", MOCK_CLIENT_ID
    onboarding.environ["JPM_CLIENT_SECRET"] = "wrong-secret-of-the-client"
    file = onboarding.folder / "client-secret"
    code, _, err = await onboarding.run(*onboarding.options(), "--wait=0")
    said = " ".join(err.split())
    assert (code, f"into {file}" in said, "JPM_CLIENT_SECRET" in said) == (1, True, True), err

    onboarding.environ["JPM_CLIENT_SECRET"] = MOCK_CLIENT_SECRET
    code, _, err = await onboarding.run("--wait=0")
    assert (code, "--yes replaces it" in " ".join(err.split())) == (2, True), err
    assert "wrong" in file.read_text()
    code, out, err = await onboarding.run("--wait=0", "--yes")
    assert (code, answered(out)) == (0, True), err
    assert mode(file) == 0o600
    assert MOCK_CLIENT_SECRET not in out + err

    file.unlink()
    code, out, err = await onboarding.run("--wait=0")
    assert (code, answered(out), file.read_text()) == (0, True, f"{MOCK_CLIENT_SECRET}\n"), err


async def test_a_wrong_client_secret_is_asked_for_again(onboarding: Onboarding) -> None:
    """A person at the terminal types the right one, which is not shown."""
    onboarding.flavor, onboarding.client_id = "basic", MOCK_CLIENT_ID
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        PAYPROXY, "onboard", *onboarding.options(), cwd=onboarding.folder, env=environment(COLUMNS="200"),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,  # else it asks at pytest's own terminal
    )  # fmt: skip
    os.close(theirs)
    person = Person(ours)
    try:
        await person.answers("Client secret (not shown)", "wrong-secret-of-the-client")
        await person.answers("Another client secret", MOCK_CLIENT_SECRET)
        await person.sees("payproxy serve")
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(ours)
    assert answered(person.seen)
    assert MOCK_CLIENT_SECRET not in person.seen
    assert (onboarding.folder / "client-secret").read_text() == f"{MOCK_CLIENT_SECRET}\n"


async def test_an_egress_proxy_is_taken_back(onboarding: Onboarding) -> None:
    """An empty value removes it, and says so; where none is set it changes nothing."""
    await onboarding.run(*onboarding.options(), "--wait=0")
    onboarding.upload()
    before = (onboarding.folder / "payproxy.toml").read_text()
    code, out, err = await onboarding.run("--egress-proxy=", "--wait=0")
    assert (code, answered(out)) == (0, True), err
    assert (onboarding.folder / "payproxy.toml").read_text() == before
    code, _, err = await onboarding.run("--egress-proxy=http://127.0.0.1:9", "--yes", "--wait=0")
    assert code == 1, err

    code, out, err = await onboarding.run("--egress-proxy=", "--yes", "--wait=0")

    assert (code, answered(out)) == (0, True), err
