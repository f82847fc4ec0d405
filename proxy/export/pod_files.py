"""The files that a configuration names, as Secrets of Kubernetes' and the places where a pod needs them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.export.programs import normal
from proxy.settings.model import Settings
from proxy.settings.placeholder import is_placeholder

# Where the chart mounts payproxy.toml: relative paths in it begin here.
CONFIGURATION = "/etc/payproxy"
# Files that are named like credentials__login__client_secret are settings here.
SETTINGS = "/run/secrets"
# A volume mounted here would hide what the image has there.
_OF_THE_IMAGE = ("bin", "boot", "dev", "lib", "lib64", "opt", "proc", "sbin", "sys", "tmp", "usr", "var")
_CERTIFICATES_OF_THE_IMAGE = Path("/etc/ssl")

# Methods of authentication that need a client secret, which the pod must have even if this machine has none.
_BY_SECRET = ("client_secret_basic", "client_secret_post")

# Kubernetes' rules for keys of a Secret, and for names (RFC 1123).
_NOT_IN_KEYS = re.compile(r"[^-._a-zA-Z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFile:
    """A file: *source* on this machine ("" if the value is in no file), *folder* and *path* below it in the pod."""

    source: str
    folder: str
    path: str

    @property
    def key(self) -> str:
        """Return the key in the Secret."""
        return _NOT_IN_KEYS.sub("-", self.path.replace("/", "."))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSecret:
    """A Secret with files that are replaced together; *watched*: payproxy notices that they were, without a restart."""

    name: str
    watched: bool
    files: tuple[PodFile, ...]

    @property
    def folder(self) -> str:
        """Return where they are mounted."""
        return self.files[0].folder


def secrets(settings: Settings, *, folder: Path) -> list[FileSecret]:
    """Return the Secrets for *settings*, which were read from a file in *folder*; each file is in one of them only."""
    found: list[FileSecret] = []
    seen: set[str] = set()
    for name, watched, paths in _groups(settings):
        fresh = [path for path in dict.fromkeys(paths) if path and not is_placeholder(path) and path not in seen]
        seen.update(fresh)
        for place, files in _by_folder([_file(Path(path), folder) for path in fresh]).items():
            suffix = "" if place == CONFIGURATION else place.replace("/", "-")
            found.append(FileSecret(name=_name(f"payproxy-{name}{suffix}"), watched=watched, files=tuple(files)))
    values = [PodFile(source="", folder=SETTINGS, path=key) for key in _without_file(settings)]
    return [*found, *([FileSecret(name="payproxy-settings", watched=False, files=tuple(values))] if values else [])]


def misplaced(secret: FileSecret) -> bool:
    """Return whether the files can't be mounted where they are named, because of what the image has there."""
    place = Path(secret.folder)
    return secret.folder not in {CONFIGURATION, SETTINGS} and (
        len(place.parts) < 3 or place.parts[1] in _OF_THE_IMAGE or place.is_relative_to(_CERTIFICATES_OF_THE_IMAGE)
    )


def _groups(settings: Settings) -> Iterator[tuple[str, bool, Iterable[str]]]:
    """Yield a name, whether payproxy watches the files (proxy.keeper.rotation), and their paths."""
    server, admin, log, state = settings.server, settings.admin, settings.request_log, settings.state
    yield "server", True, (server.certificate_file, server.key_file, server.client_ca_file)
    yield "admin", False, (admin.certificate_file, admin.key_file)
    for name, upstream in settings.upstreams.items():
        yield f"upstream-{name}", True, (upstream.client_certificate_file, upstream.client_key_file, upstream.ca_file)
    for name, one in settings.credentials.items():
        key = (one.private_key_file, one.private_key_passphrase_file, one.private_key_pin_file, one.certificate_file)
        tls = (one.client_certificate_file, one.client_key_file, one.ca_file)
        yield f"credential-{name}", True, (*key, one.client_secret_file, *tls)
    for route in settings.routes:
        signed = route.signature
        keys = (signed.private_key_file, signed.private_key_passphrase_file, signed.private_key_pin_file)
        yield f"signature-{route.name}", True, (*keys, signed.certificate_file)
    for name, caller in settings.callers.items():
        yield f"caller-{name}", True, caller.assertion_certificate_files
    yield "facade", True, settings.facade.signing_key_files
    yield "request-log", False, (log.database_file, log.body_hmac_key_file)
    yield "state", False, (state.url_file, state.ca_file, *state.encryption_key_files)


def _without_file(settings: Settings) -> Iterator[str]:
    """Yield the settings whose secret values come from no file that is named, as names in the secrets directory."""
    for name, credential in settings.credentials.items():
        absent = credential.auth_method in _BY_SECRET and not credential.client_secret_file
        if absent or credential.client_secret is not None:
            yield f"credentials__{name}__client_secret"
    if settings.request_log.database.has_password:
        yield "request_log__database"
    if settings.state.url.has_password:
        yield "state__url"


def _file(path: Path, folder: Path) -> PodFile:
    """Return *path*, relative to the configuration's *folder* here and in the pod; Helm takes no path with ".."."""
    place = path
    for base in (folder, Path(CONFIGURATION)):
        if path.is_relative_to(base):
            place = CONFIGURATION / path.relative_to(base)
            break
    source, place = str(normal(path)), normal(place)
    if place.is_relative_to(CONFIGURATION):
        return PodFile(source=source, folder=CONFIGURATION, path=str(place.relative_to(CONFIGURATION)))
    return PodFile(source=source, folder=str(place.parent), path=place.name)


def _by_folder(files: Iterable[PodFile]) -> dict[str, list[PodFile]]:
    folders: dict[str, list[PodFile]] = {}
    for file in files:
        folders.setdefault(file.folder, []).append(file)
    return folders


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", text.lower()).strip("-")
