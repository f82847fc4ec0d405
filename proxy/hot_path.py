"""The modules that every request executes: compiled by mypyc when payproxy is installed (`setup.py`)."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# From a caller's first byte to the line in the journal, and nothing else: code that runs at start, once per token or
# once an hour gains nothing. mypyc can't compile subclasses of OSError (upstream/dial.py, upstream/errors.py), and an
# exception thrown through a compiled `finally` or `except` that awaits is raised again elsewhere: no module here has
# one; upstream/opener.py and upstream/upload.py, which do, are not listed.
HOT_PATH = (
    # The state that every step of a request writes.
    "proxy/request_summary.py",
    "proxy/entropy.py",
    "proxy/secret.py",
    "proxy/credentials/token_key.py",
    "proxy/settings/methods.py",
    # From a caller's bytes to a request, and from its result to a record and counters.
    "proxy/worker/caller_connection.py",
    "proxy/worker/listener.py",
    "proxy/worker/caller_tls.py",
    "proxy/worker/lingering.py",
    "proxy/worker/caller_request.py",
    "proxy/worker/request_head.py",
    "proxy/worker/exchange_log.py",
    "proxy/worker/request_parser.py",
    # Identifies the caller.
    "proxy/callers/caller.py",
    # Selects rule, credential and URL.
    "proxy/routing/request_head.py",
    "proxy/http1/syntax.py",
    "proxy/routing/headers.py",
    "proxy/routing/plan.py",
    "proxy/routing/table.py",
    "proxy/routing/target.py",
    # The token cache; minting is rare and done in the keeper.
    "proxy/tokens/token_cache.py",
    "proxy/tokens/token.py",
    # Selects the side of a migration.
    "proxy/migration/side_cache.py",
    "proxy/migration/former.py",
    "proxy/migration/in_flight.py",
    "proxy/migration/pin.py",
    "proxy/migration/pin_rows.py",
    "proxy/migration/pin_table.py",
    "proxy/migration/side.py",
    # The life of a request.
    "proxy/forwarding/admission.py",
    "proxy/forwarding/body.py",
    "proxy/forwarding/body_signature.py",
    "proxy/forwarding/caller_side.py",
    "proxy/forwarding/exchange.py",
    "proxy/forwarding/forward.py",
    "proxy/forwarding/gateway.py",
    "proxy/forwarding/headers.py",
    "proxy/forwarding/migration.py",
    "proxy/forwarding/problem.py",
    "proxy/forwarding/identify.py",
    "proxy/forwarding/relay.py",
    "proxy/forwarding/replay.py",
    "proxy/forwarding/send.py",
    # The connection to the bank: TLS, heads, timers, the pool.
    "proxy/upstream/response.py",
    "proxy/upstream/connection.py",
    "proxy/upstream/response_head.py",
    "proxy/http1/write_coalescer.py",
    "proxy/upstream/response_parser.py",
    "proxy/upstream/pool.py",
    "proxy/http1/inline_future.py",
    "proxy/http1/timer.py",
    "proxy/http1/timer_wheel.py",
    "proxy/upstream/tls_transport.py",
    "proxy/http1/tls_records.py",
    "proxy/http1/tls_transport.py",
    "proxy/http1/notifier.py",
    # The record of a request, masked, and the journal.
    "proxy/records/journal.py",
    "proxy/records/json_line.py",
    "proxy/records/mask.py",
    "proxy/records/mask_rules.py",
    "proxy/records/payment_numbers.py",
    "proxy/records/record.py",
    "proxy/records/watchdog.py",
    "proxy/records/journal_segments.py",
    "proxy/records/journal_writer.py",
    # The keeper's part: from the journals into one chain.
    "proxy/records/chain.py",
    "proxy/records/sinks/row.py",
    # The counters of /metrics.
    "proxy/telemetry/counters.py",
)
# The library that holds all machine code; the modules' own binaries only refer to it.
LIBRARY = "proxy/hot_path__mypyc"

_ROOT = Path(__file__).parent.parent
# The suffix that this interpreter loads before a .py of the same name; other interpreters' binaries are ignored.
_SUFFIX = EXTENSION_SUFFIXES[0]


def compiled(root: Path = _ROOT) -> bool:
    """Return whether the whole hot path is compiled."""
    return all(_binary(root, module).is_file() for module in HOT_PATH)


def built() -> str:
    """Return, as text for users, whether the hot path is compiled."""
    return "compiled" if compiled() else "not compiled, slower"


def binaries(root: Path = _ROOT) -> set[Path]:
    """Return the compiled files under *root* for this interpreter."""
    return set((root / "proxy").rglob(f"*{_SUFFIX}"))


def outdated(root: Path = _ROOT) -> list[str]:
    """Return modules whose binary does not match the source: changed since compilation, missing, or left over.

    Compiled modules know each other's layout in memory: all must be from one build, or none is reliable.
    """
    found = binaries(root)
    if not found:
        return []
    expected = {module: _binary(root, module) for module in (*HOT_PATH, LIBRARY)}
    built_at = min((path.stat().st_mtime for path in found & {*expected.values()}), default=0.0)
    changed = [module for module in HOT_PATH if (root / module).stat().st_mtime > built_at]
    missing = [module for module, path in expected.items() if path not in found]
    left_over = found - {*expected.values()}
    return [*changed, *missing, *sorted(str(path.relative_to(root)) for path in left_over)]


def _binary(root: Path, module: str) -> Path:
    return root / f"{module.removesuffix('.py')}{_SUFFIX}"
