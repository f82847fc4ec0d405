"""The rule tester: a request in the address of the page, and what it would get, as `payproxy explain` prints it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxy.console.page import Cell, Facts, Table, Tone
from proxy.records.mask import KEYLESS
from proxy.records.mask_rules import Steps
from proxy.routing.explanation import Question
from proxy.routing.headers import alike
from proxy.routing.target import MAX_TARGET_BYTES
from proxy.settings.worker_values import Snapshot

# What is shown again in the form: enough for the longest target, and one more to show that it is too long.
_LONGEST_SHOWN = MAX_TARGET_BYTES + 1
_NAMES = ("method", "target", "caller", "host", "headers")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

# Enough for the longest field, 0.1 s in a thread at most: records mask as a whole what takes longer than theirs.
_STEPS = 100_000
_KEYS = frozenset({b"authorization", b"proxy-authorization", b"x-payproxy-key"})
_MASKED = (
    "{}: card numbers, IBANs and tokens are not tested here, as the address of this page stays in browsers; write "
    "others of the same form, or use `payproxy explain` on the machine."
)
_KEYED = (
    "Headers: Authorization, Proxy-Authorization and X-Payproxy-Key are not tested here; choose the caller by its name."
)


class QuestionUnusable(ValueError):
    """The fields of the form make no request; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TesterForm:
    """The form's fields, and what can be chosen: *deciding* are the headers that decide a side."""

    fields: Mapping[str, str]
    methods: tuple[str, ...]
    deciding: tuple[str, ...]

    @property
    def asked(self) -> bool:
        """Return whether there is a request to test."""
        return bool(self.fields["target"])

    @property
    def filled(self) -> dict[str, str]:
        """Return the fields with a value, for an address that shows the same."""
        return {name: value for name, value in self.fields.items() if value}


def tester_form(query: Mapping[str, str], snapshot: Snapshot) -> TesterForm:
    """Return the form as *query*, the page's address, fills it."""
    fields = {name: query.get(name, "") for name in _NAMES}
    # A form sends line ends as CR LF (HTML 4.10.21.8).
    fields["headers"] = fields["headers"].replace("\r\n", "\n")
    method = fields["method"] = fields["method"].strip() or "GET"
    stickies = [one.sticky.removeprefix("header:") for one in snapshot.migrations if one.sticky.startswith("header:")]
    return TesterForm(
        fields={name: value[:_LONGEST_SHOWN] for name, value in fields.items()},
        methods=_METHODS if method in _METHODS else (*_METHODS, method[:_LONGEST_SHOWN]),
        deciding=tuple(dict.fromkeys([*stickies, *(["Idempotency-Key"] if snapshot.migrations else [])])),
    )


def without_secrets(form: TesterForm) -> tuple[TesterForm, str]:
    """Return *form* without what no page must have, and why a field was emptied ("" if none was)."""
    fields, why = dict(form.fields), ""
    for name, value in form.fields.items():
        if KEYLESS.text(value, Steps(_STEPS)) != value:
            fields[name], why = "", _MASKED.format(name.capitalize())
        elif name == "headers" and any(alike(one.strip().lower().encode()) in _KEYS for one in _names(value)):
            fields[name], why = "", _KEYED
    if not fields["method"]:
        return replace(form, fields=fields | {"method": "GET"}, methods=_METHODS), why
    return replace(form, fields=fields), why


def _names(headers: str) -> Iterator[str]:
    for line in headers.split("\n"):
        yield line.partition(":")[0]


def question_of(form: TesterForm, snapshot: Snapshot) -> Question:
    """Return the request that *form* asks about; raises QuestionUnusable."""
    fields = form.fields
    caller = fields["caller"].strip()
    if caller and all(one.name != caller for one in snapshot.callers):
        raise QuestionUnusable(
            "Caller: there is no [callers] table of this name; leave it empty if the request proves none."
        )
    headers = [("Host", fields["host"])] if fields["host"] else []
    return Question(
        method=fields["method"],
        target=fields["target"],
        caller=caller,
        headers=(*headers, *_headers(fields["headers"])),
    )


def _headers(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name.strip():
            yield name.strip(), value.strip()
        elif line.strip():
            raise QuestionUnusable("Headers: write one in each line, as NAME: VALUE.")


def answer_blocks(answer: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return *answer*, of `explain`, as blocks of a page: what the request would get, and why by each rule."""
    if "facade" in answer:
        words = "The facade's token endpoint answers it itself, before any rule, and nothing is sent."
        return (Facts(title="This request", rows=(("answer", Cell(words)),)),)
    if "code" in answer:
        refusal = Cell(f"{answer['status']} {answer['code']}", Tone.BAD)
        rows: tuple[tuple[str, Cell], ...] = (
            ("refused with", refusal),
            ("because", Cell(answer["detail"])),
            ("sent to the bank", Cell("no")),
        )
    else:
        shown = [(name, value) for name, value in answer.items() if name != "rules" and value]
        rows = tuple((name.replace("_", " "), Cell(value)) for name, value in shown)
    rules = Table(
        title="Rule by rule",
        columns=("rule", "match", "takes it", "why"),
        rows=tuple(
            (
                Cell(one["route"]),
                Cell(one["rule"]),
                Cell("yes", Tone.GOOD) if one["takes"] else Cell("no"),
                Cell(one["why"]),
            )
            for one in answer["rules"]
        ),
        empty="The request is refused before any rule is looked at.",
    )
    return (Facts(title="This request", rows=rows), rules)
