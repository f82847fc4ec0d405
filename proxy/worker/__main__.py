"""`python -m proxy.worker FD`: started by the keeper, with one end of a socket pair as FD."""

import sys

from proxy.worker.main import main

main(int(sys.argv[1]))
