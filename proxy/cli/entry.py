"""The entry point `payproxy`: `health` is answered without click where that can be done, all else is in `main`."""

import sys

from proxy.memory_protection import protect_memory


def main() -> None:
    """Run the process's command line and exit with a code of `ExitCode`."""
    protect_memory()  # for every command: most read a key or a secret, and one of them is the keeper
    if sys.argv[1:2] == ["health"]:
        from proxy.cli.quick_health import quick_health  # noqa: PLC0415 - each command imports only what it needs

        try:
            code = quick_health(sys.argv[2:])
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            code = 130
        if code is not None:
            sys.exit(code)
    from proxy.cli.main import main as run  # noqa: PLC0415 - click and all below it take longer than a whole probe

    run()
