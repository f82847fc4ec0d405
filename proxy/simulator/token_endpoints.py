"""The bank's three token endpoints.

- `/am/oauth2/alpha/access_token` (Mock): client_secret_basic, both parts form-encoded, or client_secret_post; `scope`.
- `/oauth2/token` (modern): private_key_jwt, or tls_client_auth for clients registered with a certificate; `audience`.
- `/adfs/oauth2/token` (legacy): private_key_jwt with `client_id` and `resource`, Microsoft's error texts.

What the modern endpoint says when it refuses is not documented; here it is RFC 6749 5.2 and as terse as such endpoints
are: every defect of an assertion is the same invalid_client. `Received.note` holds the true reason.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from proxy.simulator.answer import Answer, json_answer
from proxy.simulator.assertion_check import ASSERTION_TYPE, AssertionRefused, Rules, check_assertion, claimed_client
from proxy.simulator.call import Call
from proxy.simulator.clients import Client, Flavor
from proxy.simulator.faults import WHEN_MINTING
from proxy.simulator.received import basic
from proxy.simulator.world import World

MOCK_PATH = "/am/oauth2/alpha/access_token"
MODERN_PATH = "/oauth2/token"
ADFS_PATH = "/adfs/oauth2/token"
# The form with a slash is in wide use and works at the bank; the assertion's aud is accepted with and without it.
FLAVORS = {
    MOCK_PATH: Flavor.MOCK,
    MODERN_PATH: Flavor.MODERN,
    ADFS_PATH: Flavor.ADFS,
    ADFS_PATH + "/": Flavor.ADFS,
}
TOKEN_PREFIXES = ("/am/", "/oauth2/", "/adfs/")
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 5.1
_MSIS = {
    "MSIS9602": (
        "invalid_resource",
        "The received 'resource' parameter is invalid. No registered resource is found with this identifier.",
    ),
    "MSIS9607": (
        "invalid_client",
        "The 'client_id' parameter in the request is invalid. No registered client is found with this identifier.",
    ),
    "MSIS9622": (
        "invalid_client",
        "Client authentication failed. Please verify the credential provided for client authentication is valid.",
    ),
}
# RFC 7523 3 lets a server refuse an exp unreasonably far ahead; JPM's own ADFS samples sign for months with one jti.
_LONGEST_MODERN = 300.0
_LONGEST_ADFS = 366 * 86400.0


class GrantRefused(Exception):
    """The token request fails with *error* (RFC 6749 5.2); *note* is the true reason, for tests only."""

    def __init__(self, error: str, description: str, *, status: int = 400, note: str = "", basic: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.note = note or description
        self.basic = basic

    def answer(self) -> Answer:
        """Return the error as the endpoint sends it."""
        headers = {**_NO_STORE, "WWW-Authenticate": 'Basic realm="simulator"'} if self.basic else _NO_STORE
        value = {"error": self.error, "error_description": self.description}
        return json_answer(value, status=self.status, headers=headers)


def token_endpoint(call: Call, world: World) -> Answer:
    """Answer a request to one of the token endpoints, or to a path near them."""
    flavor = FLAVORS.get(call.path)
    if flavor is None:
        return Answer(status=404)  # as ADFS does: no body
    if call.method != "POST":
        return Answer(status=405, headers={"Allow": "POST"})
    try:
        form = _form(call)
        if form.get("grant_type") != "client_credentials":
            error = "unsupported_grant_type" if "grant_type" in form else "invalid_request"
            raise GrantRefused(error, "grant_type must be client_credentials")
        match flavor:
            case Flavor.MOCK:
                return _mock(call, form, world)
            case Flavor.MODERN:
                return _modern(call, form, world)
            case Flavor.ADFS:
                return _adfs(call, form, world)
    except GrantRefused as refused:
        call.received.note = refused.note
        world.refusals[call.received.client_id, refused.error] += 1
        return refused.answer()


def client_named(call: Call) -> str:
    """Return the client id that a token request names, unproven, to aim faults; "" if there is none."""
    credentials = basic(call.headers)
    if credentials is not None:
        return unquote_plus(credentials[0])
    try:
        form = _form(call)
    except GrantRefused:
        return ""
    return form.get("client_id") or claimed_client(form.get("client_assertion", ""))


def refuse(flavor: Flavor, *, error: str = "", description: str = "", status: int = 0) -> Answer:
    """Return a refusal in the words of that endpoint, as a fault asks for it; by default the client is refused."""
    if flavor is Flavor.ADFS and not error and not description:
        refused = _adfs_refusal("MSIS9622")
    else:
        usual = 401 if error in ("", "invalid_client") else 400
        refused = GrantRefused(error or "invalid_client", description or "Client authentication failed", status=usual)
    if status:
        refused.status = status
    return refused.answer()


def _form(call: Call) -> dict[str, str]:
    """Return the form; parameters without a value count as omitted, none may stand twice (RFC 6749 3.2)."""
    kind = (call.header("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise GrantRefused("invalid_request", "Content-Type must be application/x-www-form-urlencoded")
    if len(call.body) != call.size:
        raise GrantRefused("invalid_request", "the request is too large", status=413)
    try:
        pairs = (
            parse_qsl(call.body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict")
            if call.body
            else []
        )
    except ValueError:
        raise GrantRefused("invalid_request", "the form can't be read") from None
    form = {name: value for name, value in pairs if value}
    if len({name for name, _ in pairs}) != len(pairs):
        raise GrantRefused("invalid_request", "a parameter stands twice")
    return form


def _one_method(call: Call, form: Mapping[str, str]) -> None:
    """Refuse two ways of client authentication in one request (RFC 6749 2.3)."""
    used = [call.header("Authorization") is not None, "client_secret" in form, "client_assertion" in form]
    if sum(used) > 1:
        raise GrantRefused("invalid_request", "more than one client authentication method")


def _mock(call: Call, form: Mapping[str, str], world: World) -> Answer:
    _one_method(call, form)
    with_header = call.header("Authorization") is not None
    credentials = basic(call.headers)
    if credentials is not None:
        client_id, secret = (unquote_plus(part) for part in credentials)
    else:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    call.received.client_id = client_id
    client = world.clients.get(Flavor.MOCK, client_id)
    if client is None or not secret or (with_header and credentials is None) or client.secret != secret:
        note = "client unknown" if client is None else "secret wrong or missing"
        raise GrantRefused("invalid_client", "Client authentication failed", status=401, note=note, basic=with_header)
    scope = _scope(client, form.get("scope", ""))
    return _minted(call, client, world, audience="", scope=scope)


def _modern(call: Call, form: Mapping[str, str], world: World) -> Answer:
    _one_method(call, form)
    client = _authenticated(call, form, world, flavor=Flavor.MODERN, longest=_LONGEST_MODERN, single_use=True)
    audience = form.get("audience", "")
    if not audience:
        raise GrantRefused("invalid_request", "audience is missing")
    if not world.clients.knows_audience(Flavor.MODERN, audience):
        raise GrantRefused("invalid_target", "audience is not known")  # RFC 8707 2
    if audience not in client.audiences:
        raise GrantRefused("unauthorized_client", "the client may not have this audience")
    scope = _scope(client, form.get("scope", ""))
    return _minted(call, client, world, audience=audience, scope=scope)


def _adfs(call: Call, form: Mapping[str, str], world: World) -> Answer:
    client_id = form.get("client_id", "")
    call.received.client_id = client_id
    client = world.clients.get(Flavor.ADFS, client_id)
    if client is None:
        raise _adfs_refusal("MSIS9607")
    try:
        client = _authenticated(call, form, world, flavor=Flavor.ADFS, longest=_LONGEST_ADFS, single_use=False)
    except GrantRefused as refused:
        raise _adfs_refusal("MSIS9622", note=refused.note) from None
    if client.tls_thumbprint not in ("", call.peer):
        raise _adfs_refusal("MSIS9622", note="TLS client certificate missing or not the registered one")
    resource = form.get("resource", "")
    if not world.clients.knows_audience(Flavor.ADFS, resource):
        raise _adfs_refusal("MSIS9602")
    if resource not in client.audiences:
        text = f"The client '{client_id}' is forbidden to access the resource '{resource}'."
        raise GrantRefused("unauthorized_client", f"MSIS9321: Received invalid OAuth request. {text}", status=403)
    return _minted(call, client, world, audience=resource, scope="")


def _adfs_refusal(number: str, *, note: str = "") -> GrantRefused:
    error, text = _MSIS[number]
    return GrantRefused(error, f"{number}: {text}", note=note)


def _authenticated(
    call: Call, form: Mapping[str, str], world: World, *, flavor: Flavor, longest: float, single_use: bool
) -> Client:
    """Return the client that the request proves by assertion (RFC 7523 2.2) or TLS certificate (RFC 8705 2)."""
    named = form.get("client_id", "")
    assertion = form.get("client_assertion", "")
    call.received.client_id = named or claimed_client(assertion)
    if not assertion:
        client = world.clients.get(flavor, named)
        if flavor is not Flavor.MODERN or client is None or not call.peer or client.tls_thumbprint != call.peer:
            raise GrantRefused("invalid_client", "Client authentication failed", status=401, note="no client proof")
        return client
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise GrantRefused("invalid_request", "client_assertion_type is wrong or missing")
    path = call.path.rstrip("/")
    rules = Rules(
        audiences=frozenset(origin + each for origin in world.origins for each in (path, path + "/")),
        longest=longest,
        single_use=single_use,
        leeway=world.leeway,
    )
    try:
        client = check_assertion(
            assertion,
            find=lambda client_id: world.clients.get(flavor, client_id),
            rules=rules,
            now=world.now(),
            seen=world.seen_ids,
        )
        if named not in ("", client.client_id):
            raise AssertionRefused("client_id is not the client of the assertion")  # RFC 7521 4.2
    except AssertionRefused as refused:
        raise GrantRefused("invalid_client", "Client authentication failed", status=401, note=str(refused)) from None
    return client


def _scope(client: Client, asked: str) -> str:
    """Return the scope to grant: what was asked, else the client's first (RFC 6749 3.3)."""
    if not asked:
        return client.scopes[0] if client.scopes else ""
    if any(scope not in client.scopes for scope in asked.split(" ")):
        raise GrantRefused("invalid_scope", "the client may not have this scope")
    return asked


def _minted(call: Call, client: Client, world: World, *, audience: str, scope: str) -> Answer:
    met = world.faults.take(
        WHEN_MINTING, path=call.path, client=client.client_id, method=call.method, header=call.header
    )
    lifetime = met["lifetime"].seconds if "lifetime" in met else client.lifetime
    token = world.tokens.latest(client, audience=audience) if "repeat" in met else ""
    token = token or world.tokens.issue(
        client,
        issuer=world.origin,
        audience=audience,
        scope=scope,
        lifetime=lifetime,
        bound_to=client.tls_thumbprint if client.bind_tokens else "",
    )
    world.mints[client.client_id, audience] += 1
    # ADFS writes the type in lower case (RFC 6749 5.1 makes its case meaningless).
    kind = "bearer" if client.flavor is Flavor.ADFS else "Bearer"
    value: dict[str, Any] = {"access_token": token, "token_type": kind, "expires_in": lifetime}
    if scope:
        value["scope"] = scope
    if "fields" in met:
        value |= met["fields"].fields
        value = {name: each for name, each in value.items() if name not in met["fields"].without}
    call.received.meets(met.values())
    body = json.dumps(value).encode()
    headers = {"Content-Type": "application/json;charset=UTF-8", **_NO_STORE}
    return Answer(headers=headers, body=body)
