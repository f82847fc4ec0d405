"""Explain a token endpoint's refusal in words that say where to look."""

import re

# RFC 6749 5.2, and invalid_resource (RFC 8707 calls it invalid_target), which the legacy ADFS endpoint sends.
_OAUTH = {
    "invalid_request": "a form field is missing or not understood: look at audience, scope and extra_parameters",
    "invalid_client": "the client is not known or could not prove itself: look at client_id, the secret, or key, kid "
    "and the certificate registered at the bank's portal, and at the clock",
    "invalid_grant": "the assertion was not accepted: look at assertion_audience, the clock and the certificate "
    "registered at the bank's portal",
    "unauthorized_client": "the client may not use client_credentials here: the bank has to enable it",
    "unsupported_grant_type": "this is not the token endpoint for client_credentials: look at token_url",
    "invalid_scope": "the scope is unknown or not granted to this client: look at scope",
    "invalid_resource": "the resource is unknown or not granted to this client: look at the route's audience",
    "invalid_target": "the audience is unknown or not granted to this client: look at the route's audience",
}

_WORD = re.compile("[a-z_]+")

_CODES = {
    "token_refused": "the token endpoint refused the credential",
    "token_unavailable": "the token endpoint could not be reached, was too busy, or its answer made no sense",
}


def meaning(code: str, error: str) -> str:
    """Return what our *code*, or the first known word in the endpoint's *error*, means; "" without a code."""
    if code == "token_refused":
        for word in _WORD.findall(error):
            if word in _OAUTH:
                return _OAUTH[word]
    return _CODES.get(code, code)
