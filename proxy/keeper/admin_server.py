"""The admin server: listens on TCP if configured, and always on the Unix socket in the data directory."""

import contextlib
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from proxy.keeper.admin import AdminApp, problem
from proxy.keeper.admin_connections import AdminListener, nameless
from proxy.keeper.data_directory_lock import DataDirectoryInUse
from proxy.keeper.sockets import bound, listened_on
from proxy.settings.addresses import MAX_UNIX_PATH_BYTES, TcpAddress, UnixAddress, listen_address
from proxy.settings.model import Settings

SOCKET_NAME = "admin.sock"

# How long shutdown waits for answers in flight.
_SHUTDOWN_SECONDS = 1.0


class ListenFailed(OSError):
    """The admin listener can't be opened; the message names the address and the reason."""


class AdminServer:
    """Serves *application* on *listen* (None: no TCP; TLS with *tls*) and always on *directory*/admin.sock.

    *passed* are sockets at *listen* that listen already (socket activation).
    """

    def __init__(
        self,
        application: web.Application,
        *,
        directory: Path,
        listen: TcpAddress | UnixAddress | None,
        tls: ssl.SSLContext | None = None,
        passed: Sequence[socket.socket] = (),
    ) -> None:
        self._directory = directory
        self._listen = listen
        self._passed = passed
        self._tls = tls
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._listeners: list[AdminListener] = []
        self._inodes: dict[Path, tuple[int, int]] = {}

    @property
    def socket_path(self) -> Path:
        """Return the path of the Unix socket."""
        return self._directory / SOCKET_NAME

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Return the bound TCP addresses as (host, port)."""
        names = [one.socket.getsockname() for one in self._listeners if one.socket.family != socket.AF_UNIX]
        return tuple((name[0], name[1]) for name in names)

    @property
    def places(self) -> str:
        """Return all listening addresses as text for people."""
        return ", ".join([*(f"{host}:{port}" for host, port in self.addresses), f"unix:{self.socket_path}"])

    async def __aenter__(self) -> Self:
        """Open all listeners; raise DataDirectoryInUse if another instance listens on the socket, else ListenFailed."""
        await self._runner.setup()
        self._refuse_expectations()
        try:
            self._open_unix(self.socket_path)
            match self._listen:
                case _ if self._passed:
                    self._start(*self._passed, tls=None if isinstance(self._listen, UnixAddress) else self._tls)
                case TcpAddress():
                    self._open_tcp(self._listen)
                case UnixAddress():
                    self._open_unix(Path(self._listen.path))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __repr__(self) -> str:
        return f"<AdminServer {self.places if self._listeners else 'closed'}>"

    def _refuse_expectations(self) -> None:
        """Handle an unknown Expect header here: aiohttp would answer before any middleware and repeat the value."""
        server = self._runner.server
        if server is None:
            return
        serve = server.request_handler

        async def expected(request: web.BaseRequest) -> web.StreamResponse:
            if request.headers.get("Expect", "100-continue").lower() != "100-continue":
                return nameless(problem(417, code="bad_request", detail="Only 100-continue can be expected."))
            return await serve(request)

        server.request_handler = expected

    def _open_unix(self, path: Path) -> None:
        listener = self._bound(path)
        try:
            self._start(listener)
        except OSError as error:
            raise ListenFailed(f"can't listen on {path}: {error.strerror}") from error

    def _bound(self, path: Path) -> socket.socket:
        if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
            raise ListenFailed(f"{path} is too long for a Unix socket: choose a shorter path")
        try:
            taken = listened_on(path)
        except OSError as error:
            raise ListenFailed(f"can't listen on {path}: {error.strerror}") from error
        if taken:
            if path == self.socket_path:
                raise DataDirectoryInUse(self._directory)
            raise ListenFailed(f"another process listens on {path}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            # The mode is set before listen(), so no other user can connect in between.
            path.chmod(0o600)
            self._inodes[path] = _inode(path)
        except OSError as error:
            listener.close()
            raise ListenFailed(f"can't listen on {path}: {error.strerror}") from error
        return listener

    def _open_tcp(self, address: TcpAddress) -> None:
        try:
            self._start(*bound(address.host, address.port), tls=self._tls)
        except OSError as error:
            raise ListenFailed(f"can't listen on {address} ([admin] listen): {error.strerror or error}") from error

    def _start(self, *listeners: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the admin server is closed")
        opened = [AdminListener(listener, server, tls=tls) for listener in listeners]
        self._listeners += opened
        for listener in opened:
            listener.start()

    async def _close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        # Remove only our own sockets: another instance may have replaced one after a failure.
        for path, inode in self._inodes.items():
            with contextlib.suppress(FileNotFoundError):
                if _inode(path) == inode:
                    path.unlink()
        self._inodes.clear()
        await self._runner.cleanup()


def admin_server(app: AdminApp, settings: Settings, *, passed: Sequence[socket.socket] = ()) -> AdminServer:
    """Return the server of *app* at the addresses of *settings*; raise ListenFailed if its certificate is unusable."""
    section = settings.admin
    return AdminServer(
        app.application(),
        directory=Path(settings.data_directory),
        listen=listen_address(section.listen) if section.listen else None,
        tls=server_tls(Path(section.certificate_file), Path(section.key_file)) if section.certificate_file else None,
        passed=passed,
    )


def server_tls(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """Return the listener's TLS context; raise ListenFailed with the file names if they are unusable."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ValueError) as error:
        raise ListenFailed(f"can't use {certificate_file} with {key_file} for [admin]: {error}") from None
    return context


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
