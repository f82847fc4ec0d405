"""What a process imports before it needs it costs memory and CPU at each start; counted here by modules, not by clock.

The numbers are in docs/decisions/0008-memory.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli.main import COMMANDS
from proxy.credentials.csr import EXAMPLE_SUBJECT, Subject, new_key, public_pem, self_signed
from proxy.entropy import SystemEntropy

# What belongs to a feature that an instance does not have, or has not used yet.
_FEATURES = {
    "asyncpg",
    "google.protobuf",
    "jinja2",
    "pkcs11",
    "proxy.console",
    "proxy.keeper.prepared_inquiry",
    "proxy.upstream.connection",
    "redis",
    "sqlite3",
}
# What only a configuration's validation needs, which a process of its own does, and what only commands need.
_NOT_IN_A_KEEPER = {
    "dotenv",
    "importlib.metadata",
    "proxy.checks.offline",
    "proxy.settings.load",
    "proxy.settings.models",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "sysconfig",
    "zipfile",
}
# It needs aiohttp's server and protocol, but neither its client nor applications with their files and routes.
_NOT_IN_A_WORKER = {
    "aiohttp.client",
    "frozenlist",
    "aiohttp.web",
    "aiohttp.web_app",
    "click",
    "cryptography",
    "jwt",
    "proxy.keeper",
    "pydantic",
    "sqlite3",
}
# Commands that are a server, or send to the bank whatever their options are.
_WITH_AIOHTTP = {"demo", "doctor", "onboard", "serve", "simulate", "token"}
# Where aiohttp comes in; what is not here imports it as it is.
_LEAN = ("serve", "token", "doctor", "check_online")


def test_a_worker_imports_only_what_it_needs() -> None:
    """Its memory is mostly modules; aiohttp's client and applications would be 4 MB of it."""
    code = (
        "import contextlib, sys\n"
        "sys.argv = ['', '-1']\n"  # no descriptor, so that the entry point ends after its imports
        "with contextlib.suppress(ValueError): import proxy.worker.__main__\n"
        "print(*sys.modules)"
    )
    loaded = set(_python(code).split())

    assert "proxy.worker.listener" in loaded
    assert _NOT_IN_A_WORKER.isdisjoint(loaded)


def test_a_keeper_imports_no_feature_before_it_has_one() -> None:
    """Console, database, inquiries and extras are imported by the instances that have or use them."""
    loaded = _loaded("proxy.cli.serve")

    assert "proxy.keeper.main" in loaded
    assert _FEATURES.isdisjoint(loaded)


def test_a_keeper_imports_nothing_that_validates() -> None:
    """Nor does one with the console: a process of its own reads the configuration, at the start and later."""
    loaded = _loaded("proxy.cli.serve") | _loaded("proxy.keeper.console")

    assert "proxy.console.configuration_page" in loaded
    assert _NOT_IN_A_KEEPER.isdisjoint(loaded)


@pytest.mark.parametrize("name", sorted({*COMMANDS} - _WITH_AIOHTTP))
def test_a_command_without_network_imports_no_http_library(name: str) -> None:
    """It is a third of the CPU of a command: `check`, `keys` and `assertion` need it with some options only."""
    module = COMMANDS[name].target.partition(":")[0]

    assert {"aiohttp", "proxy.keeper.main"}.isdisjoint(_loaded(module))


@pytest.mark.parametrize("name", _LEAN)
def test_aiohttp_reads_no_authorities_that_nobody_uses(name: str, tmp_path: Path) -> None:
    """Its own two contexts stay empty, 2 MB less in each process; those made afterwards trust the system's."""
    authorities = tmp_path / "authorities.pem"
    subject = Subject.parse(EXAMPLE_SUBJECT)
    authorities.write_bytes(public_pem(self_signed(new_key(), subject, now=1_800_000_000, entropy=SystemEntropy())))
    code = (
        f"import json, os, ssl, sys, proxy.cli.{name}\n"
        "from aiohttp import connector\n"
        "contexts = connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED, ssl.create_default_context()\n"
        "print(json.dumps([context.cert_store_stats()['x509'] for context in contexts]))\n"
        "print('frozenlist._frozenlist' in sys.modules, 'FROZENLIST_NO_EXTENSIONS' in os.environ)"
    )

    counts, rest = _python(code, SSL_CERT_FILE=str(authorities)).splitlines()

    assert json.loads(counts) == [0, 0, 1]
    assert rest == "False False"


def test_no_command_looks_for_garbage_among_its_modules() -> None:
    """It would look 76 times, and at all of them again later; afterwards it looks as always, at what is new."""
    code = (
        "import gc, sys, proxy.cli.main as cli\n"
        "usual, before = gc.get_threshold(), gc.get_stats()[0]['collections']\n"
        "cli.payproxy.get_command(None, 'check')\n"
        "print(gc.get_stats()[0]['collections'] - before, gc.get_threshold() == usual, gc.get_freeze_count() > 50_000)"
    )

    assert _python(code).split() == ["0", "True", "True"]


def _loaded(module: str) -> set[str]:
    """Return the modules in memory after an import of *module* in a new process."""
    return set(_python(f"import sys, {module}; print(*sys.modules)").split())


def _python(code: str, **environ: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environ
    ).stdout
