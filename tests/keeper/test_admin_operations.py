import os
import pwd
from pathlib import Path
from typing import Any

from proxy.errors import LogUnavailable
from proxy.keeper.admin import Action, AdminApp
from proxy.keeper.admin_server import AdminServer
from proxy.records.audit_records import Operation
from tests.keeper.support import LOOPBACK, Keeper, send
from tests.keeper.test_admin import is_problem
from tests.keeper.test_admin_actions import post

USER = pwd.getpwuid(os.getuid()).pw_name


class Log:
    """What was put on record, and whether it can be."""

    def __init__(self) -> None:
        self.works = True
        self.told: list[Operation | str] = []

    async def operated(self, operation: Operation) -> None:
        """Note *operation*, or refuse."""
        if not self.works:
            raise LogUnavailable("full")
        self.told.append(operation)

    def act(self, _: dict[str, Any]) -> dict[str, Any]:
        """Do it."""
        self.told.append("done")
        return {"done": True}

    def server(self, directory: Path) -> AdminServer:
        """Return an admin server with one action."""
        keeper = Keeper()
        app = AdminApp(
            status=lambda: keeper.status,
            metrics=keeper.metrics,
            actions={"/api/do": Action(what="x", act=self.act)},
            operated=self.operated,
        )
        return AdminServer(app.application(), directory=directory, listen=LOOPBACK)


async def test_it_is_recorded_before_it_is_done(tmp_path: Path) -> None:
    """Who the kernel says is at the other end, what is asked, and the reason that was given."""
    log = Log()
    async with log.server(tmp_path) as server:
        answer = await send(server.socket_path, post(b'{"credential": "c", "reason": "why", "deep": {"a": 1}}'))

    assert answer.status == 200
    assert log.told == [
        Operation(
            who=USER,
            proof="unix socket",
            what="POST /api/do",
            reason="why",
            values=(("credential", "c"),),
        ),
        "done",
    ]


async def test_what_can_not_be_recorded_is_not_done(tmp_path: Path) -> None:
    """503, and done once it can."""
    log = Log()
    log.works = False
    async with log.server(tmp_path) as server:
        assert is_problem(await send(server.socket_path, post(b"{}")), status=503, code="log_unavailable")
        assert log.told == []
        log.works = True
        assert (await send(server.socket_path, post(b"{}"))).status == 200


async def test_what_is_no_operation_is_not_recorded(tmp_path: Path) -> None:
    """Nonsense, and what comes over TCP."""
    log = Log()
    async with log.server(tmp_path) as server:
        await send(server.socket_path, post(b"[]"))
        await send(server.addresses[0], post(b"{}"))

    assert log.told == []
