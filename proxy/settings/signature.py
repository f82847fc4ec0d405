"""`signature` of a rule: the body of POST and PUT goes to the bank as a JWS, signed by a key of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings.section import Field, Section
from proxy.settings.signing_key import key_settings

if TYPE_CHECKING:
    from proxy.secret import Secret
    from proxy.settings.field_types import MediaType, Pkcs11Text
    from proxy.settings.fields import Names, PathText

# For one signature, waiting for those before it included. The caller waits, so it is less than a mint may take.
SIGNATURE_SECONDS = 5.0


class SignatureSection(Section):
    """A key for bodies, and the media type that the bank wants of a signed one; without a key nothing is signed."""

    private_key_file: PathText = Field("", description="RSA key, as of a credential, and not the same one")
    private_key_uri: Pkcs11Text = Field("", description="pkcs11: URI (RFC 7512) of an RSA key in a token; see hsm.md")
    private_key_pin_file: PathText = Field("", description="file with the token's PIN, mode 0600")
    signer_command: Names = Field(
        (), description="program that gets the SHA-256 digest on stdin and prints the signature; see hsm.md"
    )
    private_key_passphrase_file: PathText = Field("", description="passphrase of an encrypted key, mode 0600")
    certificate_file: PathText = Field(
        "", description="the key's certificate, as the bank has it; its expiry is watched"
    )
    content_type: MediaType = Field(
        "text/xml", description="Content-Type of the signed body: what the bank's documentation of this API names"
    )

    @property
    def configured(self) -> bool:
        """Return whether a key is named."""
        return bool(key_settings(self))

    @property
    def private_key_pin(self) -> Secret | None:
        """Return None: no variable can name a rule, so the PIN is in a file."""
        return None

    @property
    def timeout(self) -> float:
        """Return the seconds for one signature."""
        return SIGNATURE_SECONDS

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what is equal for sections with the same key."""
        return (
            self.private_key_file,
            self.private_key_uri,
            self.private_key_pin_file,
            self.signer_command,
            self.private_key_passphrase_file,
            self.certificate_file,
        )
