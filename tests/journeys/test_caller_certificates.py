import ssl
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.support import configured
from tests.journeys.waiting import until
from tests.upstream.certificates import Authority
from tests.worker.tls import client_context, tls_ask
from tests.worker.wire import request


async def test_a_refused_certificate_of_a_caller_is_counted_and_said(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Nobody is told who it was; the request with a good certificate is served."""
    authority = Authority(tmp_path)
    identity = authority.identity("server").file
    identity.chmod(0o600)
    tls = f'certificate_file = "{identity}"\nkey_file = "{identity}"\nclient_ca_file = "{authority.own.file}"'
    instance = await start(configured(tmp_path, bank.url, server=tls))
    _, port = instance.address

    stranger = client_context(authority)
    try:
        await tls_ask(port, stranger, request())
    except (OSError, EOFError, ssl.SSLError):
        pass
    else:
        raise AssertionError("a caller without a certificate was served")
    known = client_context(authority)
    known.load_cert_chain(authority.identity("erp").file)
    assert (await tls_ask(port, known, request())).status in {200, 404}

    counted = 'payproxy_caller_certificates_refused_total{reason="missing"} 1.0'

    async def seen() -> bool:
        return counted in (await instance.metrics()).body.decode()

    await until(seen, otherwise="the metric does not count it")
    said = "certificates of callers refused, nothing was served: 1 missing (the caller showed none)"
    await until(lambda: said in instance.stderr.read_text(), otherwise="the log does not say it")
