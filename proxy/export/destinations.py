"""Where payproxy connects to, for rules of a firewall such as Kubernetes' NetworkPolicy."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from proxy.settings.addresses import is_ip_address, url_parts
from proxy.settings.model import Settings
from proxy.settings.sentinel import SentinelUrl
from proxy.settings.stores import StoreUrl

_REDIS_PORT = 6379
_POSTGRES_PORT = 5432


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A host and port; *host* is "" if only a file that can't be read here tells it. *bank*: it is the bank's."""

    host: str
    port: int
    what: str
    bank: bool = False

    @property
    def namespace(self) -> str:
        """Return the namespace of a Service in the cluster (NAME.NAMESPACE.svc), "" if it is no such name."""
        parts = self.host.split(".")
        return parts[1] if len(parts) >= 3 and parts[2] == "svc" else ""

    @property
    def address(self) -> bool:
        """Return whether the host is an IP address."""
        return is_ip_address(self.host)


def destinations(settings: Settings, *, redis: StoreUrl | None, database: StoreUrl | None) -> list[Destination]:
    """Return each host and port once; *redis* and *database* are the stores' URLs where they could be read."""
    found = [*_bank(settings), *_redis(settings, redis), *_database(settings, database)]
    unique = {(one.host, one.port): one for one in reversed(found)}
    return list(reversed(unique.values()))


def _bank(settings: Settings) -> Iterator[Destination]:
    for name, upstream in settings.upstreams.items():
        yield _over(upstream.url, upstream.egress_proxy, f"upstream {name}")
    for name, credential in settings.credentials.items():
        if credential.token_url:
            yield _over(credential.token_url, credential.egress_proxy, f"token endpoint of {name}")


def _over(url: str, egress_proxy: str, what: str) -> Destination:
    parts = url_parts(egress_proxy or url)
    if egress_proxy:
        return Destination(host=parts.host, port=parts.port, what="egress proxy")
    return Destination(host=parts.host, port=parts.port, what=what, bank=True)


def _redis(settings: Settings, url: StoreUrl | None) -> Iterator[Destination]:
    if not settings.state.shared:
        return
    if not url:
        yield Destination(host="", port=_REDIS_PORT, what="Redis")
        return
    sentinels = SentinelUrl.of(url.reveal())
    if sentinels is None:
        split = urlsplit(url.reveal())
        yield Destination(host=split.hostname or "", port=split.port or _REDIS_PORT, what="Redis")
        return
    for host, port in sentinels.addresses:
        yield Destination(host=host, port=port, what="sentinel")
    yield Destination(host="", port=_REDIS_PORT, what="Redis that the sentinels name")


def _database(settings: Settings, url: StoreUrl | None) -> Iterator[Destination]:
    log = settings.request_log
    if not url:
        if log.database_file:
            yield Destination(host="", port=_POSTGRES_PORT, what="PostgreSQL")
    elif url.postgres:
        # libpq's form: several hosts, each with a port (RFC 3986 has one).
        for host in urlsplit(url.reveal()).netloc.rpartition("@")[2].split(","):
            name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdecimal() else (host, "", "")
            yield Destination(host=name.strip("[]"), port=int(port or _POSTGRES_PORT), what="PostgreSQL")
