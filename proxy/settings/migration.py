"""The [migrations.NAME] section: two credentials for the same rules, and how requests are assigned to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings.section import Field, Section

if TYPE_CHECKING:
    from proxy.settings.field_types import Ratio, Sticky
    from proxy.settings.fields import Methods, Names, RequiredText, Text

STICKY_HEADER = "header:"


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
    sticky: Sticky = Field(
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
