"""The files of `payproxy onboard`: written in the first run, completed and changed in later ones."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from proxy.atomic_file import replace_file
from proxy.cli.config_template import CERTIFICATE_FILE, KEY_FILE, PLACEHOLDER, SECRET_FILE
from proxy.cli.files import NewFile, write_new
from proxy.cli.onboard_answers import SETTINGS, Answers, parsed_subject, secret_from, subject_from
from proxy.cli.output import ExitCode, Failure, note
from proxy.cli.toml_edit import NotEditable, with_value
from proxy.clock import SystemClock
from proxy.credentials.credential import CredentialUnusable, read_secret_file
from proxy.credentials.csr import key_pem, new_key, public_pem, self_signed
from proxy.credentials.keys import KeyUnusable, load_certificate, load_private_key
from proxy.entropy import SystemEntropy
from proxy.settings.credential import CredentialSection
from proxy.settings.model import Settings
from proxy.settings.toml_text import key_lines

# Options whose empty value removes the setting.
REMOVABLE = ("egress_proxy",)


def login_of(settings: Settings) -> CredentialSection | None:
    """Return the credential that onboarding is about."""
    return settings.credentials.get("login") or next(iter(settings.credentials.values()), None)


def begin(path: Path, answers: Answers, *, cwd: Path, asking: bool) -> None:
    """Write key, certificate or secret, and then the configuration: all or nothing; what is there already is taken."""
    key, certificate = (
        cwd / os.environ[variable] if os.environ.get(variable) else path.parent / name
        for variable, name in (("JPM_PRIVATE_KEY_PATH", KEY_FILE), ("JPM_CERT_PATH", CERTIFICATE_FILE))
    )
    answers = answers.completed(os.environ, asking=asking, needs_subject=not certificate.exists())
    configuration = answers.configuration(os.environ, cwd=cwd, folder=path.parent)
    if answers.flavor == "basic":
        files = _missing_secret(path.parent / SECRET_FILE, asking=asking)
    else:
        files = _missing_pair(key, certificate, answers, asking=asking)
    # The configuration comes last: an interrupted run that has not written it yet is begun again.
    _write([*files, NewFile(path=path, data=configuration.encode())])


def complete(settings: Settings, answers: Answers, *, asking: bool, yes: bool) -> None:
    """Write what the configuration names and is not there; take another client secret from JPM_CLIENT_SECRET."""
    section = login_of(settings)
    if section is None or section.client_secret is not None:
        return
    if section.client_secret_file:
        file = Path(section.client_secret_file)
        _write(_missing_secret(file, asking=asking))
        _change_secret(file, os.environ.get("JPM_CLIENT_SECRET", ""), asking=asking, yes=yes)
    elif section.private_key_file and section.certificate_file:
        pair = Path(section.private_key_file), Path(section.certificate_file)
        _write(_missing_pair(*pair, answers, asking=asking))


def refuse_contradiction(path: Path, settings: Settings, answers: Answers) -> None:
    """Raise Failure if *answers* say something else than the configuration *path* that a later run can't change."""
    section = login_of(settings)
    elsewhere = "begin in another folder"
    if answers.environment not in {"", settings.environment}:
        raise Failure(
            f"{path} is for {settings.environment}, and every environment needs key, client id and configuration of "
            f"its own; for {answers.environment} {elsewhere}",
            code=ExitCode.USAGE,
        )
    if section is None:
        return
    if answers.flavor not in {"", section.flavor}:
        raise Failure(
            f"the credential in {path} has the flavor {section.flavor}; for {answers.flavor} {elsewhere}",
            code=ExitCode.USAGE,
        )
    certificate = Path(section.certificate_file)
    if answers.subject and section.certificate_file and certificate.exists():
        try:
            same = load_certificate(certificate).subject == parsed_subject(answers.subject).name()
        except KeyUnusable as error:
            raise Failure(str(error), code=ExitCode.CONFIGURATION) from None
        if not same:
            raise Failure(f"{certificate} is there with another subject; for this one {elsewhere}", code=ExitCode.USAGE)


def change(path: Path, values: Mapping[str, str], *, asking: bool, yes: bool) -> None:
    """Set *values* in the configuration, after asking; raises Failure if nobody can be asked or it can't be done."""
    before = text = path.read_text("utf-8")
    try:
        for name, value in values.items():
            for key in SETTINGS[name]:
                if value or key in key_lines(text):
                    text = with_value(text, key, value)
    except NotEditable as error:
        raise Failure(f"{path}: this file is not changed here; {error}", code=ExitCode.CONFIGURATION) from None
    if text == before:
        return
    question = f"Change {', '.join(values)} in {path}?"
    if not yes and not (asking and click.confirm(question, default=True, err=True)):
        raise Failure(
            f"{path} is there and has other values; --yes changes {', '.join(values)} in it", code=ExitCode.USAGE
        )
    mode = path.stat().st_mode & 0o777
    replace_file(path, [text.encode()])
    path.chmod(mode)
    note(f"changed in {path}: {', '.join(values)}")


def correct_secret(settings: Settings) -> bool:
    """Ask for another client secret and write it into its file; return whether there is one."""
    section = login_of(settings)
    if section is None or not section.client_secret_file:
        return False
    question = "Another client secret (not shown; Enter: stop here)"
    secret = str(click.prompt(question, default="", show_default=False, hide_input=True, err=True))
    if secret:
        _replace_secret(Path(section.client_secret_file), secret)
    return bool(secret)


def _change_secret(file: Path, secret: str, *, asking: bool, yes: bool) -> None:
    """Write *secret* into *file* if it is another one, after asking; raises Failure if nobody can be asked."""
    try:
        if secret in {"", PLACEHOLDER} or read_secret_file(file).reveal() == secret:
            return
    except CredentialUnusable:
        pass  # replaced as well
    question = f"Replace the client secret in {file} by the one in JPM_CLIENT_SECRET?"
    if not yes and not (asking and click.confirm(question, default=True, err=True)):
        raise Failure(
            f"{file} holds another client secret than JPM_CLIENT_SECRET; --yes replaces it, and without the variable "
            "the file stays as it is",
            code=ExitCode.USAGE,
        )
    _replace_secret(file, secret)


def _replace_secret(file: Path, secret: str) -> None:
    try:
        replace_file(file, [f"{secret}\n".encode()])
    except OSError as error:
        raise Failure(f"{file}: can't be written ({error.strerror})") from None
    note(f"changed: {file} (mode 0600)")


def _missing_secret(file: Path, *, asking: bool) -> list[NewFile]:
    if file.exists():
        return []
    return [NewFile(path=file, data=f"{secret_from(os.environ, asking=asking)}\n".encode(), secret=True)]


def _missing_pair(key: Path, certificate: Path, answers: Answers, *, asking: bool) -> list[NewFile]:
    """Return what is missing of the two; a key that an interrupted run left gets its certificate."""
    if certificate.exists():
        if not key.exists():
            raise Failure(f"{certificate} is there without {key}; put the missing one there, or move the other away")
        return []
    files = []
    subject = parsed_subject(answers.subject or subject_from(asking=asking))
    try:
        own = load_private_key(key) if key.exists() else new_key()
    except KeyUnusable as error:
        raise Failure(f"{certificate} is missing, and can't be made: {error}; or move the key away") from None
    if not key.exists():
        files.append(NewFile(path=key, data=key_pem(own), secret=True))
    signed = self_signed(own, subject, now=SystemClock().now(), entropy=SystemEntropy())
    return [*files, NewFile(path=certificate, data=public_pem(signed))]


def _write(files: list[NewFile]) -> None:
    write_new(files)
    for file in files:
        note(f"written: {file.path}{' (mode 0600)' if file.secret else ''}")
