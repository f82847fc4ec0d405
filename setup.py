"""The build: setuptools', with the hot path compiled by mypyc where that is possible, otherwise left as Python.

PAYPROXY_COMPILE=1 fails where it is not: the image and CI must not become slow unnoticed. PAYPROXY_COMPILE=0 skips it.
"""

import os
import runpy
import sys
import sysconfig
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

SWITCH = os.environ.get("PAYPROXY_COMPILE", "")
HOT = runpy.run_path("proxy/hot_path.py")
NEEDS = tomllib.loads(Path("pyproject.toml").read_text())["project"]
# The compiler that CI checks types with, and aiohttp, whose types the hot path uses.
TOOLS = [x for x in NEEDS["dependencies"] + NEEDS["optional-dependencies"]["dev"] if x.startswith(("aiohttp", "mypy["))]
CC = f"{os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc'} -I'{sysconfig.get_path('include')}'"


def go_without(reason: object) -> list[Any]:
    """Warn that there will be no machine code and why, or exit where it is demanded."""
    if SWITCH == "1":
        sys.exit(f"payproxy's hot path can't be compiled: {reason} (PAYPROXY_COMPILE=1)")
    sys.stderr.write(f"WARNING: payproxy is installed as pure Python, which is correct and slower: {reason}\n")
    return []


class BuildTogether(build_ext):
    """Compiles the library's sixty C files with one compiler per core: 50 s instead of 160 on two."""

    def build_extensions(self) -> None:
        """Compile and link everything, or leave nothing."""
        one, pool = self.compiler.compile, ThreadPoolExecutor(os.cpu_count())
        self.compiler.compile = lambda files, **rest: [*chain(*pool.map(lambda file: one([file], **rest), files))]
        try:
            super().build_extensions()
        except Exception as error:  # noqa: BLE001  whatever it is, Python runs everywhere
            self.extensions = go_without(error)
            for path in Path(self.build_lib).rglob("*.so"):
                path.unlink()


def extensions(folder: str) -> list[Any]:
    """Translate the hot path to C in *folder*."""
    try:
        from mypyc.build import mypycify  # noqa: PLC0415  it is there only where it can be used

        group = HOT["LIBRARY"].replace("/", ".").removesuffix("__mypyc")
        flags = ["--config-file=", "--ignore-missing-imports", *HOT["HOT_PATH"]]
        made = mypycify(flags, group_name=group, target_dir=folder, multi_file=True, opt_level="2", debug_level="0")
    except (ImportError, SystemExit) as error:
        return go_without(f"mypyc is missing or does not take the hot path, for the reasons above: {error!r}")
    made[0].include_dirs.append(str(Path(folder, "proxy")))  # it writes headers there, and looks one folder above
    return made


if SWITCH not in {"", "0", "1"}:
    sys.exit(f"PAYPROXY_COMPILE is {SWITCH!r}: 1 fails where the hot path can't be compiled, 0 leaves it out")
wanted = SWITCH != "0"
if wanted and os.system(f"echo '#include <Python.h>' | {CC} -xc -c - -o {os.devnull}"):  # noqa: S605  one's own CC
    wanted = bool(go_without("no C compiler that works (Debian: apt-get install gcc libc6-dev python3-dev)"))
for binary in HOT["binaries"](Path.cwd()) if "editable_wheel" in sys.argv else ():
    binary.unlink()
with tempfile.TemporaryDirectory() as new:  # files of an earlier build in setuptools' own would be packed too
    setup(
        setup_requires=TOOLS if wanted else [],
        ext_modules=extensions(new) if wanted and {"bdist_wheel", "editable_wheel"} & {*sys.argv} else [],
        cmdclass={"build_ext": BuildTogether},
        options={"build": {"build_base": new}, "build_ext": {"parallel": str(os.cpu_count())}},
    )
