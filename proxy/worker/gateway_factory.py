"""Builds a worker's gateway from its configuration snapshot."""

import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from proxy.callers.bearer import FEWEST_KEY_BYTES, KEY_FILE, BearerTokens
from proxy.callers.caller import Callers
from proxy.callers.facade import Facade
from proxy.callers.forwarded import TrustedProxies
from proxy.clock import Clock
from proxy.entropy import SystemEntropy
from proxy.forwarding.admission import Admission
from proxy.forwarding.gateway import Gateway, Reporter, Signer, make_pools
from proxy.forwarding.identify import Identifier
from proxy.link.messages import ToKeeper
from proxy.migration.side_cache import SideCache
from proxy.private_file import read_key
from proxy.records.body_hmac import body_digest, read_body_key
from proxy.routing.compile import head_limits, policy_of, route_table
from proxy.settings.worker_values import ServerValues, Snapshot
from proxy.tokens.token_cache import TokenCache
from proxy.worker.exchange_log import ExchangeLog
from proxy.worker.migration_reporter import MigrationReporter
from proxy.worker.signature_requests import SignatureRequests


def make_gateway(
    snapshot: Snapshot,
    *,
    exchanges: ExchangeLog,
    send: Callable[[ToKeeper], None],
    clock: Clock,
    reporter: Reporter | None = None,
    signer: Signer | None = None,
) -> Gateway:
    """Return the gateway with its collaborators; raises TlsUnusable or OSError if a file can't be used."""
    server, table = snapshot.server, route_table(snapshot)
    body_key = snapshot.request_log.body_hmac_key_file
    callers = Callers(snapshot.callers)
    facade = _facade(snapshot, callers, clock=clock)
    return Gateway(
        exchanges=exchanges,
        head_limits=head_limits(snapshot),
        identifier=Identifier(callers=callers, trusted_proxies=TrustedProxies(server.trusted_proxies), facade=facade),
        table=table,
        admission=Admission(
            max_requests=server.max_requests,
            body_memory=server.body_memory_bytes,
            callers=len(snapshot.callers),
            clock=clock,
        ),
        migrations=SideCache({one.name: policy_of(one) for one in snapshot.migrations}),
        reporter=reporter or MigrationReporter(send=send),
        tokens=TokenCache(table.origins(), clock=clock, send=send),
        signer=signer or SignatureRequests(send=send),
        pools=make_pools(snapshot.upstreams, clock=clock),
        intents=exchanges,
        now=clock.now,
        monotonic=clock.monotonic,
        exchange_timeout=server.exchange_timeout,
        max_body=server.max_body_bytes,
        body_digest=body_digest(read_body_key(Path(body_key))) if body_key else None,
        facade=facade,
    )


def _facade(snapshot: Snapshot, callers: Callers, *, clock: Clock) -> Facade | None:
    """Return the token endpoint for callers, None without one; raises OSError or ValueError for an unusable key."""
    values = snapshot.facade
    if values is None:
        return None
    files = values.signing_key_files or (str(Path(snapshot.data_directory) / KEY_FILE),)
    keys = [read_key(Path(file), fewest=FEWEST_KEY_BYTES) for file in files]
    token_urls = [urlsplit(credential.token_url) for credential in snapshot.credentials]
    bank = {(url.hostname or "", url.port or (443 if url.scheme == "https" else 80)) for url in token_urls}
    return Facade(
        values,
        snapshot.callers,
        callers=callers,
        tokens=BearerTokens(keys, lifetime=values.token_lifetime, clock=clock, entropy=SystemEntropy()),
        bank=frozenset(bank),
        clock=clock,
    )


def caller_tls(server: ServerValues) -> ssl.SSLContext | None:
    """Return the TLS context of the traffic listener, or None for plain HTTP; raises OSError or ssl.SSLError."""
    if not server.certificate_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1  # a caller resumes with the ticket of its last connection; a second costs 11 us
    context.load_cert_chain(server.certificate_file, server.key_file)
    if server.client_ca_file:
        context.load_verify_locations(server.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
