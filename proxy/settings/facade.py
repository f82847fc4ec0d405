"""The [facade] section: the token endpoint for callers that request tokens themselves."""

from typing import Annotated

from pydantic import Field, Strict

from proxy.settings.fields import PathTexts, PlainPath, RequiredText
from proxy.settings.section import Section


class FacadeSection(Section):
    """[facade]: a token endpoint for callers; without paths it is off."""

    paths: Annotated[tuple[PlainPath, ...], Strict(strict=False)] = Field(
        (),
        description="token endpoints for callers that request tokens themselves, like /adfs/oauth2/token; empty: none",
    )
    token_lifetime: Annotated[int, Field(ge=60, le=86400)] = Field(
        3600, description="lifetime of the facade's tokens in seconds, 60 to 86400"
    )
    signing_key_files: PathTexts = Field(
        (),
        description="HMAC keys of the tokens, new first, mode 0600, the same on all replicas; empty: a generated one",
    )
    accepted_assertion_audiences: Annotated[tuple[RequiredText, ...], Strict(strict=False)] = Field(
        (),
        description="aud of callers' assertions besides our own URL: the bank's, where an old client has it hard-coded",
    )
