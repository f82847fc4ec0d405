"""The [migrations.NAME] section: two credentials for the same rules, and how requests are assigned to them."""

from typing import Annotated

from pydantic import AfterValidator, Field

from proxy.settings.fields import Methods, Names, RequiredText, Section, Text, is_token, unacceptable

STICKY_HEADER = "header:"

# Headers that do not identify a caller over time, or are removed before the choice of a side.
_NOT_STICKY = frozenset(
    {"authorization", "proxy-authorization", "x-payproxy-key", "host", "connection", "content-length", "expect"}
)


def _sticky(text: str) -> str:
    if text in {"caller", "request"}:
        return text
    name = text.removeprefix(STICKY_HEADER)
    if name == text or not is_token(name):
        raise unacceptable("it is not a key to spread by", 'write "caller", "request" or "header:NAME"')
    if name.lower() in _NOT_STICKY:
        raise unacceptable(
            "callers can't be spread by this header", "name one by which the callers' requests belong together"
        )
    return text


Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SideSection(Section):
    """One side of a migration; the keys mean the same as in a rule."""

    credential: RequiredText = Field(description="name of a [credentials] table")
    audience: Text = Field("", description="audience (or resource) that the token is minted for")
    scope: Text = Field("", description="scope that the token is minted for; default by flavor")
    upstream: Text = Field("", description="name of an [upstreams] table; empty: the rule's own")


class PinSection(Section):
    """Callers with a fixed side at every weight."""

    legacy: Names = Field((), description="callers that stay on legacy, at every weight")
    modern: Names = Field((), description="callers that go to modern, at every weight")


class MigrationSection(Section):
    """[migrations.NAME]: its weight is state, not a setting, and starts at 0: adding the table moves nothing."""

    routes: Names = Field(description="names of the rules that move; their own credential is one of the two sides")
    legacy: SideSection = Field(description='{credential, audience = "", scope = "", upstream = ""} of what is left')
    modern: SideSection = Field(
        description='{credential, audience = "", scope = "", upstream = ""} of what is moved to'
    )
    sticky: Annotated[str, AfterValidator(_sticky)] = Field(
        "caller", description="what moves as one: caller, header:NAME, or request for the methods in `methods`"
    )
    methods: Methods = Field(
        ("GET",), description='for sticky = "request": methods whose requests are spread one by one'
    )
    pin: PinSection = Field(
        PinSection(), description="{legacy = [], modern = []}: callers that have a fixed side at every weight"
    )
    fallback: bool = Field(
        default=True, description="legacy serves where the modern token is not available, or was refused"
    )
    max_failure_ratio: Ratio = Field(
        0.05, description="share of failures among the last 50 modern requests above which the weight goes back"
    )
    max_client_error_ratio: Ratio = Field(0.05, description="the same for answers of 400 to 499")
