"""Values for the Helm chart in deploy/helm/payproxy that fit a configuration."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.export.destinations import Destination
from proxy.export.pod_files import CONFIGURATION, FileSecret, misplaced, secrets
from proxy.export.programs import normal, pin_sources, programs
from proxy.settings.addresses import listen_address
from proxy.settings.model import Settings
from proxy.settings.stores import SQLITE
from proxy.settings.toml_text import parse_toml

# The chart's persistence.mountPath.
_VOLUME = Path("/var/lib/payproxy")
# Where the chart puts the data directory of a configuration that names none.
_DATA = _VOLUME / "data"
_PUBLIC = {
    "ipBlock": {
        "cidr": "0.0.0.0/0",
        "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
    }
}


def kubernetes(settings: Settings, *, text: str, folder: Path, destinations: Sequence[Destination]) -> str:
    """Return values.yaml for *settings*, whose file in *folder* has *text*; no secret is in it, only names of files."""
    files = secrets(settings, folder=folder)
    lines = [
        "# Values for the chart deploy/helm/payproxy: printed by `payproxy export kubernetes`.",
        *(f"# CHANGE FIRST: {problem}" for problem in problems(settings, text=text, folder=folder)),
        *_commands(files),
        "",
        "image:",
        '  repository: ""  # where you pushed the image that you built',
        "",
        *_replicas(settings),
        "",
        *_secrets(files),
        "networkPolicy:",
        *_network(destinations),
        "",
        "config: |",
        *(f"  {line}".rstrip() for line in text.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def problems(settings: Settings, *, text: str, folder: Path) -> list[str]:
    """Return what of *settings* does not work in a pod, each with what to write; the chart refuses most of it too."""
    found = []
    if listen_address(settings.server.listen).loopback:
        found.append(f'server.listen is {settings.server.listen}: no other pod reaches it; write "0.0.0.0:8443"')
    if settings.server.workers == 0:
        found.append("server.workers = 0 is one per core of the node, not of the pod's share; write a number")
    if settings.instance and may_have_replicas(settings):
        found.append("instance would be the name of every replica; leave it out: the pod's name is used")
    if "data_directory" in parse_toml(text) and not Path(settings.data_directory).is_relative_to(_VOLUME):
        found.append(f"data_directory is not on the volume; leave it out, or name a folder in {_VOLUME}")
    if settings.request_log.file and not Path(settings.request_log.file).is_relative_to(_VOLUME):
        found.append("request_log.file is on the read-only file system; leave it out: stdout has the records")
    hiding = filter(misplaced, secrets(settings, folder=folder))
    found += [f"files in {one.folder} would hide the image's; name them beside payproxy.toml" for one in hiding]
    return found + list(_out_of_reach(settings))


def _out_of_reach(settings: Settings) -> Iterator[str]:
    """Yield what is neither on the volume nor in the image nor in a Secret."""
    log = settings.request_log
    # A relative path is one in the data directory.
    file = "" if log.database_file or log.database.postgres else log.database.reveal().removeprefix(SQLITE)
    if not normal(_DATA / file).is_relative_to(_VOLUME):
        yield "request_log.database is on the read-only file system; name a file without a directory"
    for key, path in programs(settings):
        yield (
            f"{'.'.join(map(str, key))}: {path} is not in payproxy's image; build an image from it that has the file, "
            "and what it needs"
        )
    for key, _ in pin_sources(settings):
        name = ".".join(map(str, key[:-1]))
        yield f"{name}.private_key_uri: the file in pin-source is in no Secret; name it in {name}.private_key_pin_file"


def may_have_replicas(settings: Settings) -> bool:
    """Return whether several replicas would share what they have to: state, and a database unless it is turned off."""
    log = settings.request_log
    return settings.state.shared and bool(log.database_file or log.database.postgres or not log.database)


def _commands(files: Sequence[FileSecret]) -> Iterator[str]:
    if files:
        yield "# The Secrets; payproxy never prints what is in the files:"
    for secret in files:
        keys = [f"--from-file={file.key}={shlex.quote(file.source or 'FILE')}" for file in secret.files]
        yield f"#   kubectl create secret generic {secret.name} {' '.join(keys)}"
    yield "# Then: helm upgrade --install payproxy deploy/helm/payproxy -f values.yaml"
    yield "# Plain manifests, without Helm in the cluster: helm template payproxy deploy/helm/payproxy -f values.yaml"


def _replicas(settings: Settings) -> Iterator[str]:
    if may_have_replicas(settings):
        yield "replicas: 2"
    else:
        yield "# More than one needs [state] with a Redis, and request_log.database_file with a PostgreSQL."
        yield "replicas: 1"


def _secrets(files: Sequence[FileSecret]) -> Iterator[str]:
    if not files:
        return
    yield "secrets:"
    for secret in files:
        yield f"  - name: {secret.name}"
        if secret.folder != CONFIGURATION:
            yield f"    mountPath: {json.dumps(secret.folder)}"
        if not secret.watched:
            yield "    restartOnChange: true"
        yield "    items:"
        yield from (f"      - {json.dumps({'key': file.key, 'path': file.path})}" for file in secret.files)
    yield ""


def _network(destinations: Sequence[Destination]) -> Iterator[str]:
    yield "  # Who may call, as NetworkPolicyPeers; empty: everybody who can prove who it is."
    yield "  callers: []"
    bank = [one for one in destinations if one.bank and one.port == 443]
    yield from (f"  # {one.what}: {one.host}:{one.port}" for one in bank)
    yield f"  bankCidrs: {json.dumps([_PUBLIC['ipBlock']['cidr']] if bank else [])}"
    others = [one for one in destinations if one not in bank]
    if not others:
        yield "  egress: []"
        return
    yield "  egress:"
    for one in others:
        peers, remark = _peers(one)
        yield f"    # {one.what}: {one.host or 'see its URL'}:{one.port}{remark}"
        yield f"    - {json.dumps({'ports': [{'protocol': 'TCP', 'port': one.port}], **peers})}"


def _peers(one: Destination) -> tuple[Mapping[str, Any], str]:
    """Return the peers of a rule, and a remark for what a NetworkPolicy can't say."""
    if one.address:
        bits = 128 if ":" in one.host else 32
        return {"to": [{"ipBlock": {"cidr": f"{one.host}/{bits}"}}]}, ""
    if one.namespace:
        return {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": one.namespace}}}]}, ""
    if one.host and "." not in one.host:
        return {"to": [{"podSelector": {}}]}, " (this namespace)"
    if one.bank:
        return {"to": [_PUBLIC]}, ""
    return {}, " (any host: a NetworkPolicy has no names; narrow it by `to: [{ipBlock: {cidr: ...}}]`)"
