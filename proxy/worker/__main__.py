"""Entry point `python -m proxy.worker FD`: the keeper starts it with one end of a socket pair as file descriptor FD."""

import signal
import sys

# Before the imports, which take most of the start: systemd and Ctrl-C send these signals to every process (SIGABRT by
# systemd's watchdog), and only the keeper decides when a worker stops.
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGABRT):
    signal.signal(number, signal.SIG_IGN)

import proxy.worker.aiohttp_without_client  # noqa: E402, F401
from proxy.worker.main import main  # noqa: E402

main(int(sys.argv[1]))
