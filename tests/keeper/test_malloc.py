import ctypes
import subprocess
import sys

import pytest

# Two fingerprints of credentials as the keeper makes them: at its start, and again in a thread.
_PROGRAM = """
import hashlib, resource, threading
from pathlib import Path
from proxy.keeper.malloc import return_large_blocks

def fingerprint():
    hashlib.scrypt(b"secret", salt=b"client", n=1 << 14, r=8, p=1)

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

return_large_blocks()
hashlib.scrypt(b"secret", salt=b"client", n=2, r=8, p=1)
before = resident_bytes()
fingerprint()
thread = threading.Thread(target=fingerprint)
thread.start()
thread.join()
print(resident_bytes() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_fingerprints_leave_no_memory_behind() -> None:
    """Each takes 16 MB for a moment; without this the second one's stays with the thread that made it."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 8 * 1024 * 1024
