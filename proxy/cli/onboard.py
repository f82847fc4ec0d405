"""`payproxy onboard`: from an empty folder to the first call of the bank's API that is answered with 200."""

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from proxy.cli.config_template import FLAVORS
from proxy.cli.onboard_answers import ENVIRONMENTS, Answers, at_a_terminal, without_password
from proxy.cli.onboard_files import REMOVABLE, begin, change, complete, correct_secret, login_of, refuse_contradiction
from proxy.cli.onboard_wait import CORRECTIONS, GIVE_UP_SECONDS, FirstCall
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, json_option, note
from proxy.cli.sigterm import ended_by_sigterm
from proxy.clock import SystemClock
from proxy.credentials.inspection import recognise
from proxy.credentials.keys import KeyUnusable, load_certificate, thumbprint
from proxy.settings.load import load
from proxy.settings.model import Settings

PORTAL = """
At the bank, in the Payments Developer Portal:
  1. Open the page Security and select the tab {tab}.
  2. In the section Request click Add Security, and select the certificate use OAUTH.
  3. Upload {certificate} (never {key}).
  4. Compare the Thumbprint that the page then shows with this one:
     {thumbprint}
     If it is written in another form: payproxy onboard --thumbprint 'WHAT THE PAGE SHOWS'"""

REPRESENTATIVE = """
Send {certificate} (never {key}) to your representative at the bank, who gives you client id, resource id and token URL.
The bank knows the certificate by this thumbprint:
     {thumbprint}"""

_TABS = {"client-testing": "Client Testing", "production": "Production"}
_READY = "Everything is in place. Start the proxy: payproxy serve --config {path}"


@click.command()
@click.option(
    "--flavor", type=click.Choice(FLAVORS), help="basic: Mock; jwt: Client Testing, Production; adfs: legacy."
)
@click.option("--environment", type=click.Choice(ENVIRONMENTS), help="Default: client-testing; mock for basic.")
@click.option("--client-id", help="As the bank's page shows it.")
@click.option("--subject", help="Subject of the certificate: C, ST, L, O, OU and CN.")
@click.option("--audience", help="Of the bank's API; for adfs the resource id.")
@click.option("--token-url", help="If the bank gave out another one than the usual.")
@click.option("--url", help="The API's base URL, without path.")
@click.option("--egress-proxy", help="http://host:port, if the internet is reached through a proxy only.")
@click.option("--thumbprint", "shown", metavar="TEXT", help="The Thumbprint that the bank's page shows.")
@click.option("--wait", default=GIVE_UP_SECONDS, show_default=True, type=click.FloatRange(0, 86400), metavar="SECONDS",
              help="How long to try until the bank has taken the certificate.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Ask nothing: take the defaults, and change values of a file that is there.")
@file_option
@json_option
def onboard(
    config_path: Path | None, shown: str | None, wait: float, *, yes: bool, as_json: bool, **given: Any
) -> None:
    """Lead from an empty folder to the first call that the bank answers: key, certificate, configuration, token, call.

    Writes payproxy.toml, and oauth.key and oauth.crt beside it. Ctrl-C and a later run continue where it was; with
    --client-id, --audience, ... that run also changes the value in the file, and --egress-proxy '' removes the proxy.
    The client secret of the flavor basic comes from JPM_CLIENT_SECRET, also another one in a later run. Without a
    terminal, or with --yes, nothing is asked.
    """
    cwd = Path.cwd()
    path = cwd / (config_path or os.environ.get("PAYPROXY_CONFIG") or "payproxy.toml")
    answers = Answers(**{name: without_password(value or "") for name, value in given.items()})
    asking = at_a_terminal() and not yes
    if path.exists():
        note(f"{path} is there: going on with it.")
        refuse_contradiction(path, _readable(path), answers)
        removed = {name: "" for name in REMOVABLE if given[name] == ""}
        change(path, answers.changes() | removed, asking=asking, yes=yes)
        complete(_readable(path), answers, asking=asking, yes=yes)
    else:
        begin(path, answers, cwd=cwd, asking=asking)
    settings = _readable(path)
    key_id = _upload(path, settings, shown=shown, asking=asking)
    call = FirstCall(path, clock=SystemClock(), wait=wait, environ=os.environ, correct=_corrector(path, asking=asking))
    with ended_by_sigterm():
        notes = asyncio.run(call.made())
    emit({"configuration": str(path), "thumbprint": key_id, "notes": notes}, as_json=as_json, human="\n".join(notes))
    note(_READY.format(path=path))


def _readable(path: Path) -> Settings:
    readable = load(path, environ=os.environ, cwd=Path.cwd()).readable
    if readable is None:
        raise Failure(f"{path} can't be read: `payproxy check` says why", code=ExitCode.CONFIGURATION)
    return readable


def _upload(path: Path, settings: Settings, *, shown: str | None, asking: bool) -> str:
    """Say what to upload where, and return the key id that the assertions have; "" for a client secret."""
    section = login_of(settings)
    if section is None or not section.certificate_file:
        return ""
    try:
        certificate = load_certificate(Path(section.certificate_file))
    except KeyUnusable as error:
        raise Failure(str(error), code=ExitCode.CONFIGURATION) from None
    text = REPRESENTATIVE if section.flavor == "adfs" else PORTAL
    about = {"certificate": section.certificate_file, "key": section.private_key_file}
    usual = thumbprint(certificate, "sha1-hex")
    note(text.format(tab=_TABS.get(settings.environment, settings.environment), thumbprint=usual, **about))
    if asking and shown is None:
        question = "The Thumbprint that the bank shows, once the certificate is there (Enter: go on without)"
        shown = click.prompt(f"\n{question}", default="", show_default=False, err=True)
    form: str = section.key_id_format
    if shown:
        found = recognise(shown, {section.certificate_file: certificate})
        if not found.form:
            raise Failure(
                f"{found.text} is not the thumbprint of {section.certificate_file} in any form: another certificate "
                "is uploaded, or a character is missing"
            )
        form = found.form
        if form != section.key_id_format:
            note(f"The bank shows the {form} thumbprint: the assertions' kid takes that form.")
            change(path, {"key_id_format": form}, asking=False, yes=True)
    return section.key_id or thumbprint(certificate, form)


def _corrector(path: Path, *, asking: bool) -> Any:
    """Return what asks a person for another value of the setting that a finding names; None if nobody can be asked."""
    if not asking:
        return None

    def correct(setting: str) -> bool:
        name = setting.rpartition(".")[2]
        if name == "client_secret_file":
            return correct_secret(_readable(path))
        if name not in CORRECTIONS:
            return False
        value = str(click.prompt(f"Another {name} (Enter: stop here)", default="", show_default=False, err=True))
        if value:
            change(path, {name: without_password(value.strip())}, asking=False, yes=True)
        return bool(value)

    return correct
