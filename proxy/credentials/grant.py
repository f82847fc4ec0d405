"""Builds the token request for each client authentication method (RFC 6749 4.4): headers and form, no I/O."""

import base64
from urllib.parse import quote_plus, urlencode

from proxy.credentials.credential import Credential

# RFC 7523 2.2; the bank's page omits the second hyphen in one place, which no server accepts.
CLIENT_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def token_request(
    credential: Credential, *, audience: str, scope: str, assertion: str = ""
) -> tuple[dict[str, str], bytes]:
    """Return headers and form of a client credentials request (RFC 6749 4.4.2) for *audience* and *scope*.

    Exactly one client authentication method is used (RFC 6749 2.3). Both results contain secrets: send them, do not
    store them. *assertion* is needed for private_key_jwt only. Raises ValueError for an unknown method.
    """
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
        # A compressed answer would need limited decompression, and a token is small.
        "Accept-Encoding": "identity",
        "User-Agent": "payproxy",
    }
    form = [("grant_type", "client_credentials")]
    if scope:
        form.append(("scope", scope))
    if audience and credential.audience_parameter:
        form.append((credential.audience_parameter, audience))
    secret = credential.client_secret.reveal() if credential.client_secret else ""
    match credential.auth_method:
        case "client_secret_basic":
            headers["Authorization"] = basic_authorization(credential.client_id, secret)
        case "client_secret_post":
            form += [("client_id", credential.client_id), ("client_secret", secret)]
        case "private_key_jwt":
            if credential.send_client_id:
                form.append(("client_id", credential.client_id))
            form += [("client_assertion_type", CLIENT_ASSERTION_TYPE), ("client_assertion", assertion)]
        case "tls_client_auth":
            # RFC 8705 2: the certificate alone does not identify the client.
            form.append(("client_id", credential.client_id))
        case _:
            raise ValueError(f"{credential.auth_method!r} is no client authentication method")
    form += credential.extra_parameters
    return headers, urlencode(form).encode()


def basic_authorization(client_id: str, secret: str) -> str:
    """Return the Authorization value of client_secret_basic: both parts are form-encoded first (RFC 6749 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
