"""The systemd units that fit a configuration: payproxy.service and payproxy.socket (systemd 252 and newer)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.export.programs import home_of, normal, pin_sources, programs, unnamed_copies
from proxy.settings.addresses import TcpAddress, UnixAddress, is_ip_address, listen_address
from proxy.settings.findings import Key
from proxy.settings.model import Settings
from proxy.settings.sources import DEFAULT_DATA_DIRECTORY, DELIMITER, PREFIX
from proxy.settings.stores import SQLITE
from proxy.settings.tree import leaves
from proxy.settings.values import masked

# Where the units expect the configuration and the files beside it, and the installation.
CONFIGURATION_DIRECTORY = Path("/etc/payproxy")
PROGRAM = "/opt/payproxy/bin/payproxy"
# What `payproxy serve` needs to stop beyond exchange_timeout: 5 s in which load balancers see that it is not ready, 5 s
# after which workers are killed, 20 s to close the files.
STOP_SECONDS = 30
# Names of settings whose file holds a key, a secret or a password.
PRIVATE = frozenset(
    {
        "key_file",
        "client_key_file",
        "private_key_file",
        "private_key_passphrase_file",
        "private_key_pin_file",
        "client_secret_file",
        "body_hmac_key_file",
        "database_file",
        "url_file",
        "encryption_key_files",
        "signing_key_files",
    }
)
_CREDENTIALS = Path("/run/credentials/payproxy.service")
_PRIVILEGED_PORTS = 1024
# A file name in a unit: no white space, quotes, colons or specifiers, which unit files read in ways of their own.
_PLAIN = re.compile(r"[A-Za-z0-9._/@+=~-]+")
_VARIABLE = re.compile(r"[A-Z0-9_]+")

_SERVICE = """\
# Made by `payproxy export systemd`. Run it again when the configuration names other files or addresses.
[Unit]
Description=payproxy, authenticating reverse proxy ({environment})
Wants=network-online.target
After=network-online.target
# A proxy is started again for as long as it takes.
StartLimitIntervalSec=0

[Service]
# From systemd 253 on, Type=notify-reload makes `systemctl reload` wait in any case.
Type=notify
ExecStart={program} serve --config {configuration}
ExecReload=/bin/kill -HUP $MAINPID
# The journals of a crashed run are read before callers are let in.
TimeoutStartSec=300
# server.exchange_timeout and 30 seconds. Workers ignore SIGTERM and SIGABRT, and finish what they have in flight.
TimeoutStopSec={stop}
# The keeper says that it is alive while its event loop runs and at least one worker works.
WatchdogSec=60
Restart=on-failure
RestartSec=1
# 78: the configuration has an error, which a restart does not mend.
RestartPreventExitStatus=78
# The keeper replaces a worker that the kernel kills.
OOMPolicy=continue
LimitNOFILE=65536
LimitCORE=0

# A user of its own, which exists while the service runs. Its files:
DynamicUser=yes
UMask=0077
{directories}
# Keys and secrets stay with root; this unit alone gets copies, made when it starts.
{credentials}
# What the process can't do.
NoNewPrivileges=yes
{capabilities}
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The thread that writes the journal is scheduled in batches, the one that writes to SQLite has a lower priority.
SystemCallFilter=sched_setscheduler setpriority

[Install]
WantedBy=multi-user.target
"""

_SOCKET = """\
# Made by `payproxy export systemd --socket`. Optional: with it no connection is refused while payproxy is restarted.
[Unit]
Description=payproxy, the listener for callers

[Socket]
FileDescriptorName=traffic
ListenStream={listen}
BindIPv6Only=ipv6-only
Backlog=4096
{mode}
[Install]
WantedBy=sockets.target
"""


class NotForSystemd(ValueError):
    """The configuration has something that the units can't provide; the message names the key and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credential:
    """A private file: its source, and its name in $CREDENTIALS_DIRECTORY."""

    source: Path
    name: str


def service(settings: Settings, *, base: Path) -> str:
    """Return payproxy.service for *settings*, which were read from a file in the directory *base*.

    Files beside that file are expected in /etc/payproxy. Raises NotForSystemd.
    """
    _check_pins(settings)
    _check_homes(settings, base=base)
    return _SERVICE.format(
        environment=settings.environment,
        program=PROGRAM,
        configuration=CONFIGURATION_DIRECTORY / "payproxy.toml",
        stop=int(settings.server.exchange_timeout) + STOP_SECONDS,
        directories=_lines(_directories(settings, base=base)),
        credentials=_lines(_credential_lines(settings, base=base)),
        capabilities=_lines(_capabilities(settings)).rstrip("\n"),
    )


def socket(settings: Settings) -> str:
    """Return payproxy.socket for `server.listen` of *settings*; raise NotForSystemd if that is a host name."""
    address = listen_address(settings.server.listen)
    if isinstance(address, TcpAddress) and not is_ip_address(address.host):
        raise NotForSystemd(
            f"server.listen = {str(address)!r}: a socket unit takes IP addresses only; write one in its place"
        )
    mode = "SocketMode=0660\n" if isinstance(address, UnixAddress) else ""
    listen = address.path if isinstance(address, UnixAddress) else str(address)
    return _SOCKET.format(listen=_plain(listen, "server.listen") if mode else listen, mode=mode)


def _check_pins(settings: Settings) -> None:
    for key, _ in pin_sources(settings):
        what = "the unit makes no copy of the file in pin-source, and the service's user can't read it"
        instead = _dotted((*key[:-1], "private_key_pin_file"))
        raise NotForSystemd(f"{_dotted(key)}: {what}: name the file in {instead} instead")
    for key, copy in unnamed_copies(settings, folder=_CREDENTIALS):
        raise NotForSystemd(f"{_dotted(key)}: no variable can name the unit's copy: write {copy} in the configuration")


def _check_homes(settings: Settings, *, base: Path) -> None:
    """Raise NotForSystemd for what is read where it is, and is hidden there; private files are copied by systemd."""
    public = [(key, Path(file)) for key, files in _files(settings) if key[-1] not in PRIVATE for file in files]
    for key, path in [*public, *programs(settings)]:
        if home := home_of(_placed(path, base)):
            what = f"{path} is below {home}, which ProtectHome=yes hides from the service"
            raise NotForSystemd(f"{_dotted(key)}: {what}: move it to {CONFIGURATION_DIRECTORY} or /opt/payproxy")


def _directories(settings: Settings, *, base: Path) -> Iterator[str]:
    data = Path(settings.data_directory)
    if data == base / DEFAULT_DATA_DIRECTORY:
        data = Path("/var/lib/payproxy")  # $STATE_DIRECTORY, where the file names no directory
    state = _below("/var/lib", data, "data_directory", fix="write /var/lib/payproxy, or leave it out")
    yield f"StateDirectory={state}"
    yield "StateDirectoryMode=0700"
    yield from _log_directory(settings, base=base, data=data)
    sockets = [address.path for address in _addresses(settings) if isinstance(address, UnixAddress)]
    if sockets:
        names = {_below("/run", Path(path).parent, "listen", fix="write unix:/run/payproxy/NAME") for path in sockets}
        yield f"RuntimeDirectory={' '.join(sorted(names))}"


def _log_directory(settings: Settings, *, base: Path, data: Path) -> Iterator[str]:
    log = settings.request_log
    embedded = log.database and not log.database_file and not log.database.postgres
    if embedded and not normal(data / log.database.reveal().removeprefix(SQLITE)).is_relative_to(data):
        raise NotForSystemd(f"request_log.database is outside of {data}: name a file without a directory")
    file = Path(log.file)
    if log.file and not _placed(file, base).is_relative_to(data):
        fix = "write /var/log/payproxy/requests.jsonl"
        yield f"LogsDirectory={_below('/var/log', file.parent, 'request_log.file', fix=fix)}"


def _credential_lines(settings: Settings, *, base: Path) -> Iterator[str]:
    """Yield what copies each private file, and tells payproxy where the copy is instead of the configuration's file."""
    credentials = list(_credentials(settings, base=base))
    for one in credentials:
        yield f"LoadCredential={one.name}:{one.source}"
    places = {one.source: f"%d/{one.name}" for one in credentials}
    for key, files in _files(settings):
        if all(_CREDENTIALS in Path(file).parents for file in files):
            continue  # the configuration names the copy
        sources = [_placed(Path(file), base) for file in files]
        if not any(source in places for source in sources):
            continue
        name = DELIMITER.join(map(str, key))
        values = ",".join(places.get(source, str(source)) for source in sources)
        if _VARIABLE.fullmatch(name.upper()):
            yield f"Environment={PREFIX}{name.upper()}={values}"
        else:  # no name of a variable, but one of a file
            yield f"SetCredential={name}:{values.replace('%d', str(_CREDENTIALS))}"


def _credentials(settings: Settings, *, base: Path) -> Iterator[_Credential]:
    keys: dict[Path, Key] = {}
    for key, files in _files(settings):
        if key[-1] in PRIVATE:
            for file in files:
                keys.setdefault(_placed(Path(file), base), key)
    names = [source.name for source in keys]
    for source, key in keys.items():
        unique = names.count(source.name) == 1
        name = source.name if unique else f"{source.parent.name}.{source.name}"
        yield _Credential(source=Path(_plain(str(source), _dotted(key))), name=name)


def _files(settings: Settings) -> Iterator[tuple[Key, list[str]]]:
    """Yield each setting that names files which payproxy reads, with their paths."""
    for key, value in leaves(masked(settings)):
        if str(key[-1]).endswith("_file") and value:
            yield key, [value]
        elif str(key[-1]).endswith("_files") and value:
            yield key, list(value)


def _capabilities(settings: Settings) -> Iterator[str]:
    """Yield no capabilities, or the one to bind a port below 1024; in a user namespace it would be without effect."""
    ports = [address.port for address in _addresses(settings) if isinstance(address, TcpAddress)]
    if any(0 < port < _PRIVILEGED_PORTS for port in ports):
        yield "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"
        yield "AmbientCapabilities=CAP_NET_BIND_SERVICE"
    else:
        yield "CapabilityBoundingSet="
        yield "PrivateUsers=yes"


def _addresses(settings: Settings) -> Iterator[TcpAddress | UnixAddress]:
    for text in (settings.server.listen, settings.admin.listen):
        if text:
            yield listen_address(text)


def _placed(path: Path, base: Path) -> Path:
    """Return where the file *path* is on the machine that runs the unit, without "..", which systemd refuses."""
    for directory in (base, _CREDENTIALS):
        if path.is_relative_to(directory):
            path = CONFIGURATION_DIRECTORY / path.relative_to(directory)
            break
    return normal(path)


def _below(root: str, path: Path, key: str, *, fix: str) -> str:
    """Return *path* relative to *root*, where systemd makes directories for a service."""
    path = normal(path)
    if not path.is_relative_to(root) or path == Path(root):
        raise NotForSystemd(f"{key}: {path} is no directory that systemd makes, which are below {root}: {fix}")
    return _plain(str(path.relative_to(root)), key)


def _plain(path: str, key: str) -> str:
    if not _PLAIN.fullmatch(path):
        raise NotForSystemd(f"{key}: {path!r} has a character with a meaning in unit files: rename the file")
    return path


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
