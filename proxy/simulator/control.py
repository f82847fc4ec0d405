"""Steering the simulator over HTTP, on its own port, for tests and people in other processes.

All bodies are JSON. `GET /_sim/state[?received=N]`: counts, tokens and the last N (100) requests. `/_sim/fault`: GET
lists, POST sets one or a list of faults (the fields of `Fault`), DELETE takes all away. `POST /_sim/revoke`:
`{"all": true}`, `{"fingerprint": ...}` or `{"client_id": ...}`. `/_sim/clients`: GET lists, POST registers
(`{"flavor": "basic", "client_id", "secret", ...}`; for jwt and adfs `certificate` is a PEM text; further keywords as in
`World.register_...`). `POST /_sim/clock`: `offset` and `leeway` in seconds. `POST /_sim/access`: `path` and `audiences`
(null: any live token). `POST /_sim/signature`: bodies below `path` have to be signed by the key of `certificate`, PEM
("": not any more). `POST /_sim/books`: `delay`, seconds until payments are found by Request-Id.
`POST /_sim/reset`. These requests are neither counted nor kept.
"""

import json
from typing import Any

from proxy.simulator.answer import Answer, json_answer
from proxy.simulator.call import Call
from proxy.simulator.clients import Client
from proxy.simulator.faults import Fault
from proxy.simulator.world import World

PREFIX = "/_sim/"


def control(call: Call, world: World) -> Answer:
    """Answer a request under `/_sim/`; 400 says what was wrong with it."""
    try:
        return _control(call, world)
    except (ValueError, TypeError, KeyError, AttributeError) as wrong:
        return json_answer({"error": f"{type(wrong).__name__}: {wrong}"}, status=400)


def state(world: World, *, received: int = 100) -> dict[str, Any]:
    """Return counts, tokens, faults and the last *received* requests, nothing secret among them."""
    now = world.clock.monotonic()
    requests = list(world.log.requests)
    return {
        "origin": world.origin,
        "files_origin": world.files_origin,
        "now": world.now(),
        "clock_offset": world.clock_offset,
        "received_total": world.log.total,
        "mints": [{"client_id": c, "audience": a, "count": n} for (c, a), n in world.mints.items()],
        "refusals": [{"client_id": c, "error": e, "count": n} for (c, e), n in world.refusals.items()],
        "requests": dict(world.log.by_path),
        "accepted": dict(world.accepted),
        "accepted_total": world.accepted.total(),
        "tokens": [
            {
                "fingerprint": issued.fingerprint,
                "client_id": issued.client_id,
                "audience": issued.audience,
                "scope": issued.scope,
                "state": issued.state(now),
                "seconds_left": issued.expires - now,
            }
            for issued in list(world.tokens)[-1000:]
        ],
        "faults": world.faults.as_list(),
        "received": [each.as_dict() for each in requests[-received:]] if received else [],
    }


def _control(call: Call, world: World) -> Answer:
    match call.method, call.path.removeprefix(PREFIX):
        case "GET", "state":
            return json_answer(state(world, received=int(call.query("received", "100"))))
        case "GET", "fault":
            return json_answer(world.faults.as_list())
        case "DELETE", "fault":
            world.faults.clear()
            return json_answer([])
        case "GET", "clients":
            return json_answer([_client(each) for each in world.clients])
        case "POST", action:
            return _act(action, json.loads(call.body or b"{}"), world)
    return json_answer({"error": "no such control"}, status=404)


def _act(action: str, value: Any, world: World) -> Answer:  # noqa: C901 - one branch a control
    if not isinstance(value, dict) and action != "fault":
        raise TypeError("the body must be a JSON object")
    match action:
        case "fault":
            for fault in [Fault.of(each) for each in (value if isinstance(value, list) else [value])]:
                world.faults.add(fault)
            answer: Any = world.faults.as_list()
        case "revoke":
            if not (value.get("all") or value.get("fingerprint") or value.get("client_id")):
                raise ValueError("say all, fingerprint or client_id")
            killed = world.tokens.revoke(fingerprint=value.get("fingerprint", ""), client_id=value.get("client_id", ""))
            answer = {"revoked": killed}
        case "clients":
            _register(value, world)
            answer = [_client(each) for each in world.clients]
        case "clock":
            world.clock_offset = float(value.get("offset", world.clock_offset))
            world.leeway = float(value.get("leeway", world.leeway))
            answer = {"now": world.now(), "offset": world.clock_offset, "leeway": world.leeway}
        case "access":
            audiences = value["audiences"]
            world.access[value["path"]] = None if audiences is None else frozenset(audiences)
            answer = {}
        case "signature":
            world.require_signature(value["path"], value.get("certificate", "").encode())
            answer = {"paths": sorted(world.signatures)}
        case "books":
            world.books_delay = float(value["delay"])
            answer = {"delay": world.books_delay}
        case "reset":
            world.reset()
            answer = {}
        case _:
            return json_answer({"error": "no such control"}, status=404)
    return json_answer(answer)


def _register(value: dict[str, Any], world: World) -> None:
    how = dict(value)
    flavor, client_id = how.pop("flavor"), how.pop("client_id")
    if "tls_certificate" in how:
        how["tls_certificate_pem"] = how.pop("tls_certificate").encode()
    match flavor:
        case "basic":
            world.register_secret_client(client_id, how.pop("secret"), **how)
        case "jwt":
            world.register_jwt_client(client_id, how.pop("certificate", "").encode(), **how)
        case "adfs":
            world.register_adfs_client(client_id, how.pop("certificate").encode(), **how)
        case _:
            raise ValueError(f"unknown flavor {flavor!r}")


def _client(client: Client) -> dict[str, Any]:
    return {
        "flavor": client.flavor,
        "client_id": client.client_id,
        "key_ids": sorted(client.certificates),
        "audiences": sorted(client.audiences),
        "scopes": list(client.scopes),
        "lifetime": client.lifetime,
    }
