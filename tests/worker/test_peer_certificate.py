"""Mutual TLS on a real listener: the subject in the certificate, and no other, is the caller."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from proxy.clock import SystemClock
from proxy.settings.distinguished_name import canonical
from proxy.worker.caller_tls import TlsCallerServer
from proxy.worker.gateway_factory import caller_tls
from tests.upstream.certificates import Authority
from tests.worker.support import proxy
from tests.worker.values import CALLER, SERVER
from tests.worker.wire import Wire, request

KINDS = {"CN": NameOID.COMMON_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "O": NameOID.ORGANIZATION_NAME}
MEANT = (("CN", "erp"), ("OU", "Payments"), ("O", "Acme, Inc."))


def named(*parts: tuple[str, str]) -> x509.Name:
    """Return the subject of *parts*, the most specific first."""
    return x509.Name([x509.NameAttribute(KINDS[kind], value) for kind, value in reversed(parts)])


@pytest.mark.parametrize(
    ("subject", "status"),
    [
        (named(*MEANT), 200),
        (named(("CN", "erp,OU=Payments,O=Acme, Inc.")), 403),
        (named(("CN", "erp"), ("O", "Acme, Inc."), ("OU", "Payments")), 403),
        (x509.Name([*named(MEANT[2]).rdns, x509.RelativeDistinguishedName([*named(MEANT[0]), *named(MEANT[1])])]), 403),
    ],
    ids=["the one", "a name that looks like it", "another order", "two parts as one"],
)
async def test_the_subject_is_told_from_all_others(tmp_path: Path, subject: x509.Name, status: int) -> None:
    """CN="erp,OU=Payments,O=Acme" passed for CN=erp,OU=Payments,O=Acme while nothing was escaped."""
    authority = Authority(tmp_path)
    server, client = authority.identity("server"), authority.identity("client", subject=subject)
    tls = caller_tls(
        replace(
            SERVER,
            certificate_file=str(server.file),
            key_file=str(server.file),
            client_ca_file=str(authority.own.file),
        )
    )
    assert tls is not None
    erp = replace(CALLER, networks=(), certificate_subject=canonical(r"CN=erp, OU=Payments, O=Acme\, Inc."))
    context = ssl.create_default_context(cafile=str(authority.own.file))
    context.load_cert_chain(client.file)
    async with proxy(tmp_path, callers=(erp,)) as it:
        entrance = TlsCallerServer(it.server, tls, clock=SystemClock())
        listener = await asyncio.get_running_loop().create_server(entrance, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        caller = Wire(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
        try:
            await caller.send(request())
            assert (await caller.answer()).status == status
        finally:
            caller.writer.transport.abort()
            listener.close()
            await listener.wait_closed()
