"""Every file that a configuration can name is in a Secret, and what is watched is what the keeper watches."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from proxy.export.pod_files import CONFIGURATION, FileSecret, secrets
from proxy.keeper import rotation
from proxy.settings.credential import CredentialSection
from proxy.settings.model import (
    AdminSection,
    CallerSection,
    FacadeSection,
    RequestLogSection,
    ServerSection,
    Settings,
    StateSection,
    UpstreamSection,
)
from proxy.settings.models import validated
from proxy.settings.section import Section
from proxy.settings.values import masked

FOLDER = Path("/srv/configuration")


def _files(section: type[Section], at: str, **values: Any) -> dict[str, Any]:
    """Return the values of a section in which every file is named, each with a name of its own."""
    for name in (field.name for field in fields(section)):
        if name.endswith("_file"):
            values[name] = f"{FOLDER}/{at}/{name}"
        elif name.endswith("_files"):
            values[name] = (f"{FOLDER}/{at}/{name}-1", f"{FOLDER}/{at}/{name}-2")
    return values


def _settings() -> Settings:
    return Settings(
        environment="mock",
        data_directory="/var/lib/payproxy",
        server=ServerSection(**_files(ServerSection, "server")),
        admin=AdminSection(**_files(AdminSection, "admin")),
        upstreams={"bank": UpstreamSection(**_files(UpstreamSection, "bank", url="https://api.jpmorgan.com"))},
        credentials={
            "login": validated(CredentialSection, _files(CredentialSection, "login", flavor="jwt", client_id="one"))
        },
        callers={"erp": CallerSection(**_files(CallerSection, "erp"))},
        request_log=RequestLogSection(**_files(RequestLogSection, "log")),
        state=StateSection(**_files(StateSection, "state")),
        facade=FacadeSection(**_files(FacadeSection, "facade", paths=("/token",))),
    )


def _named(value: Any) -> Iterator[str]:
    """Yield every path below FOLDER in *value*."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _named(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _named(each)
    elif isinstance(value, str) and value.startswith(f"{FOLDER}/"):
        yield value


def _sources(found: list[FileSecret], *, watched: bool) -> set[str]:
    return {file.source for secret in found if secret.watched is watched for file in secret.files}


def test_every_file_is_in_a_secret() -> None:
    """Whichever section names it; in the pod it has the same path from payproxy.toml on."""
    settings = _settings()
    found = secrets(settings, folder=FOLDER)
    named = set(_named(masked(settings)))

    assert len(named) > 20
    assert _sources(found, watched=True) | _sources(found, watched=False) == named
    for secret in found:
        assert secret.folder == CONFIGURATION
        assert all(f"{FOLDER}/{file.path}" == file.source for file in secret.files)


def test_what_is_watched_is_what_the_keeper_watches() -> None:
    """A Secret whose change payproxy does not notice asks for a restart, and no other."""
    settings = _settings()

    watched = {file for files in rotation._groups(settings).values() for file in files}

    assert _sources(secrets(settings, folder=FOLDER), watched=True) == watched
