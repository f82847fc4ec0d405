"""Programs that people have, refused while they upload: each of them sees the answer.

With the rest read for 2 s or up to 1 MiB, 15 of 29 such programs got a reset instead of it; some then send again.
"""

import sys
from pathlib import Path

import pytest

from tests.journeys.test_real_callers import PROGRAMS, needs, printed
from tests.upstream.support import eventually
from tests.worker.support import proxy

MIB = 1048576
UPLOADS = [(size * MIB, coding) for size in (3, 30) for coding in ("fixed", "chunked")]


async def assert_each_upload_sees_the_answer(directory: Path, *command: str) -> None:
    """Let *command* upload to where no rule leads; it is to print 404 for each upload."""
    async with proxy(directory) as it:
        words = [str(word) for upload in UPLOADS for word in upload]
        output = await printed(*command, f"http://127.0.0.1:{it.port}/nowhere", *words)
        assert output.split() == ["404"] * len(UPLOADS)
        assert it.untouched
        await eventually(lambda: not len(it.server.lingering))


@pytest.mark.parametrize("client", ["requests", "httpx", "urllib3", "http.client", "aiohttp"])
async def test_python_clients_see_the_refusal(tmp_path: Path, client: str) -> None:
    """3 and 30 MiB, with a length and in chunks."""
    await assert_each_upload_sees_the_answer(tmp_path, sys.executable, str(PROGRAMS / "uploads.py"), client)


@pytest.mark.parametrize("client", ["fetch", "http"])
async def test_node_clients_see_the_refusal(tmp_path: Path, client: str) -> None:
    """3 and 30 MiB, with a length and in chunks."""
    needs("node")
    await assert_each_upload_sees_the_answer(tmp_path, "node", str(PROGRAMS / "uploads.mjs"), client)


@pytest.mark.parametrize("client", ["HttpURLConnection", "HttpClient"])
async def test_jdk_clients_see_the_refusal(tmp_path: Path, client: str) -> None:
    """3 and 30 MiB, with a length and in chunks."""
    needs("javac")
    assert await printed("javac", "-d", str(tmp_path), str(PROGRAMS / "Uploads.java")) == ""
    command = ("java", "-XX:TieredStopAtLevel=1", "-cp", str(tmp_path), "Uploads")
    await assert_each_upload_sees_the_answer(tmp_path, *command, client)


@pytest.mark.parametrize(("size", "coding"), UPLOADS)
async def test_curl_sees_the_refusal(tmp_path: Path, size: int, coding: str) -> None:
    """Without waiting for 100 Continue, so that it sends at once."""
    needs("curl")
    (tmp_path / "body").write_bytes(bytes(size))
    lines = ["-H", "Expect:", *(["-H", "Transfer-Encoding: chunked"] if coding == "chunked" else [])]
    async with proxy(tmp_path) as it:
        options = ("-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{tmp_path / 'body'}", *lines)
        assert await printed("curl", *options, f"http://127.0.0.1:{it.port}/nowhere") == "404"


@pytest.mark.parametrize("size", [3 * MIB, 30 * MIB])
async def test_wget_sees_the_refusal_and_sends_once(tmp_path: Path, size: int) -> None:
    """It knows no chunks; after a reset it would send again, up to 20 times."""
    needs("wget")
    (tmp_path / "body").write_bytes(bytes(size))
    async with proxy(tmp_path) as it:
        options = ("-S", "-O", "/dev/null", f"--post-file={tmp_path / 'body'}")
        output = await printed("wget", *options, f"http://127.0.0.1:{it.port}/nowhere")
        assert [line.split()[1] for line in output.splitlines() if line.strip().startswith("HTTP/1.1 ")] == ["404"]
        assert len(it.ledger.ended) == 1
