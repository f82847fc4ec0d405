"""The build backend (PEP 517): setuptools' own, with the hot path compiled by mypyc where possible.

PAYPROXY_COMPILE=1 fails if it is not possible: the image and CI must not become slow unnoticed. PAYPROXY_COMPILE=0
skips it, for those who edit the hot path or measure coverage.
"""

import contextlib
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import setuptools
from setuptools import Distribution, Extension, build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

from proxy.hot_path import HOT_PATH, LIBRARY, binaries

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_SWITCH = "PAYPROXY_COMPILE"
# The compiler's exact version: another one generates other machine code. It checks types first, and the hot path's only
# foreign types are aiohttp's; without them it would be compiled otherwise than it was measured.
_TOOLS = ("mypy[mypyc]==2.4.1", "aiohttp==3.14.5")
_FOLDER = Path("build/hot-path")
_CORES = os.cpu_count() or 1

_Settings = dict[str, Any] | None


class Unfit(Exception):
    """The hot path can't be compiled here."""


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    """Return the build requirements; the compiler only where it can be used, so that it need not exist elsewhere."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_tools()]


def get_requires_for_build_editable(config_settings: _Settings = None) -> list[str]:
    """Return the build requirements, as for a wheel."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_tools()]


def build_wheel(wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel, this platform's or a pure one, and return its name."""
    return _build(partial(build_meta.build_wheel, wheel_directory, config_settings, metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable wheel and return its name; remove old binaries, and put new ones beside their sources."""
    _remove_binaries()
    return _build(partial(build_meta.build_editable, wheel_directory, config_settings, metadata_directory))


def _tools() -> Sequence[str]:
    if not _wanted():
        return ()
    try:
        _try_the_compiler()
    except Unfit as obstacle:
        _do_without(obstacle)
        return ()
    return _TOOLS


def _build(build: Callable[[], str]) -> str:
    """Run *build* with the hot path compiled; if that fails and is optional, run it without."""
    if not _wanted():
        return build()
    try:
        _try_the_compiler()
        with _compiling():
            wheel = build()
        if wheel.endswith("-none-any.whl"):
            raise Unfit("this release of setuptools built no extensions")
    except (Exception, SystemExit) as obstacle:  # noqa: BLE001  whatever the error, pure Python runs everywhere
        _do_without(obstacle)
        _remove_binaries()
        return build()
    return wheel


def _wanted() -> bool:
    switch = os.environ.get(_SWITCH, "")
    if switch not in {"", "0", "1"}:
        sys.exit(f"{_SWITCH} is {switch!r}: 1 fails where the hot path can't be compiled, 0 leaves it out")
    return switch != "0"


def _do_without(obstacle: BaseException) -> None:
    """Warn that there will be no machine code and why; exit if it is required."""
    if os.environ.get(_SWITCH) == "1":
        sys.exit(f"payproxy's hot path can't be compiled: {obstacle} ({_SWITCH}=1)")
    sys.stderr.write(f"WARNING: payproxy is installed as pure Python, which is correct and slower: {obstacle}\n")


def _remove_binaries() -> None:
    for path in binaries(Path.cwd()):
        path.unlink()


def _try_the_compiler() -> None:
    """Compile and link the smallest possible extension; raises Unfit."""
    if sys.implementation.name != "cpython":
        raise Unfit(f"mypyc is for CPython, this is {sys.implementation.name}")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise Unfit("Python's headers are missing (Debian: apt-get install python3-dev)")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.c")
        source.write_text("#include <Python.h>\nPyMODINIT_FUNC PyInit_trial(void) { return NULL; }\n")
        command = build_ext(Distribution({"ext_modules": [Extension("trial", [str(source)])]}))
        command.build_lib = command.build_temp = folder
        command.ensure_finalized()
        try:
            command.run()
        except (BaseError, CCompilerError, OSError) as error:
            raise Unfit(f"no C compiler that works (Debian: apt-get install gcc libc6-dev): {error}") from None


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Pass the hot path to setup() as extensions while the block lasts.

    setuptools' backend calls `setuptools.setup()` if there is no setup.py. A program's extensions can't be named in
    pyproject.toml, and a placeholder there would make every wheel this platform's, the pure one too.
    """
    plain = setuptools.setup
    shutil.rmtree(_FOLDER, ignore_errors=True)
    setuptools.setup = partial(
        plain,
        ext_modules=_extensions(),
        cmdclass={"build_ext": CompileAtOnce},
        # A new folder: files of an earlier build in setuptools' own folder would be packed into this wheel.
        options={"build": {"build_base": str(_FOLDER)}},
    )
    try:
        yield
    finally:
        setuptools.setup = plain
        shutil.rmtree(_FOLDER, ignore_errors=True)


def _extensions() -> list[Extension]:
    """Translate the hot path to C with mypyc and return the extensions; raises Unfit."""
    try:
        mypycify = import_module("mypyc.build").mypycify
    except ImportError:
        raise Unfit(f"{_TOOLS[0]} is not installed (pip sees to it but for --no-build-isolation)") from None
    try:
        extensions: list[Extension] = mypycify(
            # CI checks the types; the project's own settings need plugins that are not installed here.
            ["--config-file=", "--ignore-missing-imports", *HOT_PATH],
            group_name=LIBRARY.replace("/", ".").removesuffix("__mypyc"),
            target_dir=str(_FOLDER),
            # One C file per module can be compiled on many cores: 50 s instead of 160 on two.
            multi_file=True,
            opt_level="2",
            debug_level="0",
        )
    except SystemExit:
        raise Unfit("mypyc does not take the hot path as it is, for the reasons above") from None
    # mypyc writes the library's headers into a folder for its package, and looks for them one above.
    extensions[0].include_dirs.append(str(_FOLDER / Path(LIBRARY).parent))
    return extensions


class CompileAtOnce(build_ext):
    """setuptools' command, which compiles the library's sixty C files one by one, with one compiler per core."""

    def build_extensions(self) -> None:
        """Compile and link everything."""
        in_turn = self.compiler.compile

        def at_once(sources: Sequence[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(_CORES) as compilers:
                objects = compilers.map(lambda source: in_turn([source], **options), sources)
                return [path for made in objects for path in made]

        self.compiler.compile = at_once
        self.parallel = _CORES
        super().build_extensions()
