"""Findings as text: wrapped to the terminal, with the line of the file that they refer to and a caret.

A line is shown whole only if its key can't hold a secret; for any other key, also a misspelt one, the value is left
out, as in the finding itself.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from proxy.cli.output import paint, printable, terminal_width, wrapped
from proxy.settings.findings import Finding, Severity
from proxy.settings.toml_text import MAX_FILE_BYTES

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}
# For output that is no terminal: a number may have thousands of digits.
_WIDEST = 160

_HEADER = re.compile(r"\s*\[{1,2}[A-Za-z0-9_.\-\"' ]*\]{0,2}\s*(#|$)")
_SETTING = re.compile(r"(\s*)([A-Za-z0-9_-]+)(\s*=)")

# Keys whose values are names, addresses and numbers. Keys for secrets or for files of secrets, where people write the
# secret itself, are not among them; nor are choices, whose findings list the valid values.
PLAIN_KEYS = frozenset(
    {
        *("data_directory", "listen", "workers", "hosts", "allow_anonymous", "allow_browsers"),
        *("trusted_proxies", "max_header_bytes", "max_body_bytes", "body_memory_bytes", "max_requests"),
        *("exchange_timeout", "console", "ready_requires", "connect_timeout", "response_timeout", "idle_timeout"),
        *("max_connections", "foreign_host", "client_id", "key_id", "token_url"),
        *("assertion_audience", "assertion_lifetime", "send_client_id"),
        *("default_lifetime", "share_tokens", "timeout", "name", "path", "methods", "callers", "upstream"),
        *("credential", "audience", "scope", "strip_prefix", "replay_body_bytes", "remint_on", "networks"),
        *("certificate_subject", "max_requests_per_second", "facade_client_id", "stdout"),
        *("intent_methods", "index_headers", "spool_bytes", "routes", "sticky", "legacy", "modern", "pin"),
        *("fallback", "max_failure_ratio", "max_client_error_ratio", "paths", "token_lifetime"),
        *("accepted_assertion_audiences", "certificate_file", "client_certificate_file", "ca_file", "client_ca_file"),
        *("url", "egress_proxy"),
    }
)
# Signs of a secret in a URL, or of a file's content in place of its name.
_SECRET_PARTS = ("@", "password", "-----begin")


def finding_text(finding: Finding, *, err: bool = False) -> str:
    """Return *finding* for stdout or stderr, its severity in colour on a terminal."""
    word = finding.severity.value
    text = wrapped(printable(str(finding)), width=terminal_width(err=err), indent="  ")
    text = text.replace(f" {word}:", f" {paint(word, _COLOURS[finding.severity], err=err)}:", 1)
    shown = _shown(finding)
    return f"{text}\n{_excerpt(finding, shown, err=err)}" if shown is not None else text


def _shown(finding: Finding) -> str | None:
    """Return the part of the line that may be shown, None if there is none or it is inside a list or a string."""
    line = _line(Path(finding.file), finding.line).rstrip().replace("\t", "    ")
    # A comment may hold anything.
    line = line.partition(" #")[0].rstrip()
    if _HEADER.match(line):
        return printable(line)
    setting = _SETTING.match(line)
    if setting is None:
        return None
    plain = setting[2] in PLAIN_KEYS and not any(part in line.lower() for part in _SECRET_PARTS)
    return printable(line if plain else f"{setting[0]} …")


def _line(path: Path, number: int) -> str:
    """Return line *number* of the file *path*, "" if there is none."""
    try:
        if not number or not path.is_file():
            return ""
        with path.open("rb") as file:
            lines = file.read(MAX_FILE_BYTES).decode("utf-8-sig", errors="replace").split("\n")
    except OSError:
        return ""
    return lines[number - 1] if number <= len(lines) else ""


def _excerpt(finding: Finding, line: str, *, err: bool) -> str:
    indent = len(line) - len(line.lstrip())
    setting = _SETTING.match(line)
    # The key, or else the whole header.
    length = len(setting[2]) if setting is not None else len(line.strip())
    number = str(finding.line)
    gutter = " " * len(number)
    width = terminal_width(err=err)
    room = (width or _WIDEST) - len(number) - len(" | ")
    shown = line if len(line) <= room else f"{line[: max(room - 1, 1)]}…"
    caret = paint("^" * max(1, min(length, len(shown) - indent)), _COLOURS[finding.severity], err=err)
    return f"{gutter} |\n{number} | {shown}\n{gutter} | {' ' * indent}{caret}"


def count_errors(findings: Sequence[Finding]) -> str:
    """Return the number of error findings in words."""
    number = sum(finding.severity is Severity.ERROR for finding in findings)
    return "1 error" if number == 1 else f"{number} errors"
