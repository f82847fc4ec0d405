"""Limits that hold at both ends of the link."""

from typing import Final

# The queue of each callers' listening socket. The loop's server in a worker calls listen() again, with this.
BACKLOG: Final = 1024
# Signatures of bodies that one worker waits for, and that the keeper queues for it by key. With a key in memory these
# take 0.2 s, with one in hardware more than anybody waits. One caller has half of them at most.
MOST_SIGNATURES_WAITING: Final = 512
