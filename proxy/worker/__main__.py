"""Entry point `python -m proxy.worker FD`: the keeper starts it with one end of a socket pair as file descriptor FD."""

import sys

from proxy.worker.main import main

main(int(sys.argv[1]))
