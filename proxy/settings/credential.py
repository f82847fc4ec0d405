"""The [credentials.NAME] section: a client of a token endpoint, and the presets of the bank's three flavors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from proxy.settings.section import Field, Section
from proxy.settings.signing_key import key_settings, pin_file

if TYPE_CHECKING:
    from proxy.settings.field_types import AssertionLifetime, Pkcs11Text
    from proxy.settings.fields import Count, EgressProxy, Names, PathText, RequiredText, Seconds, SecretText, Text, Url

Flavor = Literal["basic", "jwt", "adfs"]
AuthMethod = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"]

PRESETS: Mapping[str, Mapping[str, str | bool]] = MappingProxyType(
    {
        "basic": {
            "token_url": "https://id.payments.jpmorgan.com/am/oauth2/alpha/access_token",
            "auth_method": "client_secret_basic",
            "audience_parameter": "",
            "send_client_id": False,
        },
        "jwt": {
            "token_url": "https://login.jpmorgan.com/oauth2/token",
            "auth_method": "private_key_jwt",
            "audience_parameter": "audience",
            "send_client_id": False,
        },
        # No token_url: the bank supplies it with the client id.
        "adfs": {"auth_method": "private_key_jwt", "audience_parameter": "resource", "send_client_id": True},
    }
)

# The scope requested if a route names none.
DEFAULT_SCOPES: Mapping[str, str] = MappingProxyType({"basic": "jpm:payments:sandbox", "jwt": "", "adfs": ""})

# The proxy sets these form fields itself (RFC 6749 4.4.2, RFC 7523 2.2), and the audience's field.
RESERVED_PARAMETERS = frozenset(
    {"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope"}
)


class CredentialSection(Section):
    """[credentials.NAME]: a client; the flavor's presets are applied when it is built, so all values are effective."""

    flavor: Flavor = Field(
        description="basic (Mock), jwt (Client Testing, Production) or adfs (legacy): presets for the keys below"
    )
    client_id: RequiredText = Field(
        description="client id, from the portal's Security page or the bank's representative"
    )
    private_key_file: PathText = Field(
        "", description="RSA key: PEM (PKCS#1 or PKCS#8, also encrypted) or .p12, mode 0600"
    )
    private_key_uri: Pkcs11Text = Field(
        "", description="pkcs11: URI (RFC 7512) of an RSA key in a token, instead of a file; see hsm.md"
    )
    private_key_pin: SecretText | None = Field(
        None, description="PIN of the token; from the environment or the secrets directory only"
    )
    private_key_pin_file: PathText = Field(
        "", description="file with the token's PIN, mode 0600, unless the URI has pin-source"
    )
    signer_command: Names = Field(
        (), description="program that signs, with its arguments, instead of a key; see hsm.md"
    )
    private_key_passphrase_file: PathText = Field("", description="passphrase of an encrypted key, mode 0600")
    certificate_file: PathText = Field(
        "", description="certificate of the key: the kid is its thumbprint, its expiry is watched"
    )
    key_id: Text = Field("", description="kid, instead of the one computed from the certificate")
    key_id_format: Literal["sha1-hex", "x5t", "x5t#S256", "sha256-hex"] = Field(
        "sha1-hex", description="form of the computed kid; sha1-hex is upper case without colons"
    )
    token_url: Url = Field("", description="token endpoint; https, http on loopback only; default by flavor")
    auth_method: AuthMethod = Field("private_key_jwt", description="how the client authenticates; default by flavor")
    client_secret: SecretText | None = Field(
        None, description="client secret; from the environment or the secrets directory only"
    )
    client_secret_file: PathText = Field("", description="file with the client secret, mode 0600")
    assertion_audience: Text = Field("", description="aud of the client assertion; default: token_url")
    assertion_lifetime: AssertionLifetime = Field(60, description="seconds until a client assertion expires, 10 to 300")
    audience_parameter: Literal["audience", "resource", ""] = Field(
        "audience", description="form field that carries the route's audience; default by flavor"
    )
    send_client_id: bool = Field(
        default=False, description="send client_id with private_key_jwt too; default by flavor"
    )
    extra_parameters: dict[RequiredText, Text] = Field(
        {},
        description="further form fields of the token request; reserved ones are refused; "
        "those named like a secret are shown as `***`",
    )
    default_lifetime: Count = Field(300, description="lifetime of a token in seconds if the answer has no expires_in")
    share_tokens: bool = Field(
        default=True,
        description="share tokens with other replicas, through the Redis of `[state]`; false if the bank binds them to "
        "an address",
    )
    ca_file: PathText = Field("", description="private CA of the token endpoint; verification can't be turned off")
    client_certificate_file: PathText = Field(
        "", description="TLS client certificate for the token endpoint; with client_key_file"
    )
    client_key_file: PathText = Field("", description="key of the TLS client certificate, mode 0600")
    egress_proxy: EgressProxy = Field(
        "", description="http://HOST:PORT of a proxy on the way to the token endpoint (CONNECT)"
    )
    timeout: Seconds = Field(10.0, description="seconds for one call of the token endpoint")
    foreign_host: bool = Field(default=False, description="allow a token_url outside the bank's domains and loopback")

    @property
    def default_scope(self) -> str:
        """Return the scope for routes that name none."""
        return DEFAULT_SCOPES[self.flavor]

    @property
    def reserved_parameters(self) -> frozenset[str]:
        """Return the form fields that extra_parameters may not set."""
        return RESERVED_PARAMETERS | ({self.audience_parameter} - {""})

    @property
    def key_settings(self) -> tuple[str, ...]:
        """Return which settings name the signing key: one, or the configuration is wrong."""
        return key_settings(self)

    @property
    def pin_file(self) -> str:
        """Return the file with the token's PIN, "" if none is named."""
        return pin_file(self)

    def source_of(self, key: str) -> str:
        """Return the origin of the value of *key* if no source set it."""
        if key in PRESETS[self.flavor]:
            return f"preset of flavor {self.flavor}"
        return "token_url" if key == "assertion_audience" else "default"
