"""`payproxy serve`: run the proxy until SIGTERM."""

import asyncio
import contextlib
import os
import resource
import sys
from pathlib import Path

import click

import proxy.lean_aiohttp  # noqa: F401 - before everything else that imports aiohttp
from proxy.checks.container import in_container
from proxy.checks.reading import Checks
from proxy.cli.finding_text import count_errors, finding_text
from proxy.cli.live_lines import clock_time, live_line
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, note
from proxy.clock import SystemClock, timestamp
from proxy.credentials.body_signer import load_body_signers
from proxy.credentials.credential import Credential, CredentialUnusable
from proxy.credentials.keys import KeyUnusable
from proxy.entropy import SystemEntropy
from proxy.keeper.admin_server import ListenFailed as AdminListenFailed
from proxy.keeper.configuration_process import ConfigurationNotRead, ConfigurationReader, read_in_fork
from proxy.keeper.data_directory_lock import DataDirectoryInUse, locked
from proxy.keeper.main import Keeper
from proxy.keeper.malloc import return_large_blocks
from proxy.keeper.migrations import ConfigurationObjected
from proxy.keeper.passed_sockets import PassedSockets, PassedSocketUnfit
from proxy.keeper.replication import SharedStateUnusable
from proxy.keeper.sockets import ListenFailed, Sockets
from proxy.private_file import directory_exposed
from proxy.records.generated_key import close_own_files
from proxy.settings.addresses import listen_address
from proxy.settings.findings import Severity
from proxy.settings.model import Settings
from proxy.settings.stores import UrlUnusable
from proxy.settings.values import instance_name


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Records as JSON also where stdout is a terminal.")
@file_option
def serve(config_path: Path | None, *, as_json: bool) -> None:
    """Run the proxy: the keeper and its workers.

    Records go to stdout, on a terminal as short lines for people. SIGHUP reads the configuration again. On SIGTERM the
    proxy finishes the requests in flight, then exits.
    """
    return_large_blocks()
    _take_all_descriptors()
    clock = SystemClock()
    checks = Checks(now=clock.now(), container=in_container(os.environ))
    try:
        checked = read_in_fork(config_path, cwd=Path.cwd(), checks=checks)
    except ConfigurationNotRead as error:
        raise Failure(str(error)) from None
    loaded, findings, settings = checked.loaded, checked.findings, checked.loaded.settings
    for finding in findings:
        note(finding_text(finding, err=True))
    if settings is None or any(finding.severity is Severity.ERROR for finding in findings):
        raise Failure(f"the configuration has {count_errors(findings)}: not started", code=ExitCode.CONFIGURATION)
    directory = Path(settings.data_directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Check again: another process may have created it meanwhile.
        if (fault := directory_exposed(directory, us=os.geteuid())) is not None:
            raise Failure(f"{fault.what}; {fault.fix}", code=ExitCode.CONFIGURATION)
        with locked(directory):
            for path in close_own_files(directory):
                note(f"{path}: group could read it, as in Kubernetes with an fsGroup; its mode is 0600 again")
            _serve(settings, loaded.path, clock, as_json=as_json)
    except (AdminListenFailed, DataDirectoryInUse, ListenFailed) as error:
        raise Failure(str(error)) from None
    except (CredentialUnusable, KeyUnusable, PassedSocketUnfit, SharedStateUnusable, ConfigurationObjected) as error:
        raise Failure(str(error), code=ExitCode.CONFIGURATION) from None
    except UrlUnusable as error:
        where = settings.request_log.database_file or "request_log.database"
        raise Failure(f"{where}: {error}", code=ExitCode.CONFIGURATION) from None
    except OSError as error:
        raise Failure(f"{error.filename or directory}: {error.strerror or error}") from None


def _take_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one; the workers inherit it.

    Soft limits are small because of programs that use select(2) (setrlimit(2)); the proxy does not.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # systems that represent "infinity" in another way
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _serve(settings: Settings, path: Path, clock: SystemClock, *, as_json: bool) -> None:
    credentials = {
        name: Credential.load(section, name=name, shared=settings.state.shared)
        for name, section in settings.credentials.items()
    }
    signers = load_body_signers(settings)
    workers = settings.server.workers or os.cpu_count() or 1
    address, admin = listen_address(settings.server.listen), settings.admin.listen
    passed = PassedSockets.of(os.environ, pid=os.getpid())
    traffic_sockets = passed.take("traffic", address)
    admin_sockets = passed.take("admin", listen_address(admin) if admin else None)
    passed.refuse_rest()
    sockets = Sockets(address, workers=workers, passed=traffic_sockets)

    # The file found at the start, even if the process changes its working directory.
    reader = ConfigurationReader(path, cwd=path.parent)

    async def run() -> bool:
        keeper = Keeper(
            settings,
            instance=instance_name(settings),
            sockets=sockets,
            admin_sockets=admin_sockets,
            credentials=credentials,
            signers=signers,
            read=reader.read,
            environ=os.environ,
            clock=clock,
            entropy=SystemEntropy(),
            render=live_line if sys.stdout.isatty() and not as_json else None,
            stamp=clock_time if sys.stderr.isatty() else timestamp,
        )
        try:
            return await keeper.run()
        except ExceptionGroup as group:
            raise _listen_failed(group) or group from None
        finally:
            reader.close()
            await keeper.close()

    try:
        if not asyncio.run(run()):
            raise Failure("the stop was not in order: look for `unknown` in the request log, and ask the bank")
    finally:
        sockets.close()


def _listen_failed(group: ExceptionGroup[Exception]) -> ListenFailed | None:
    """Return the error if the callers' address could not be bound, None if it was another error."""
    found: BaseException | None = group.subgroup(ListenFailed)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, ListenFailed) else None
