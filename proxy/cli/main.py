"""The command `payproxy`: find the subcommand, run it, and convert the result to an exit code."""

import gc
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from proxy import __version__
from proxy.cli.output import ExitCode, note, output_written, watch_stdout
from proxy.hot_path import built


class LazyCommand(NamedTuple):
    """Where a command is defined, as module:attribute, and its line in `payproxy --help`."""

    target: str
    summary: str


# Modules are imported when their command runs: help and completion must not wait for cryptography or aiohttp.
COMMANDS: Mapping[str, LazyCommand] = {
    "demo": LazyCommand("proxy.cli.demo:demo", "Run simulator and proxy together and walk through what they do."),
    "init": LazyCommand("proxy.cli.init:init", "Write a commented payproxy.toml."),
    "onboard": LazyCommand(
        "proxy.cli.onboard:onboard", "Lead from an empty folder to the first call that the bank answers."
    ),
    "check": LazyCommand("proxy.cli.check:check", "Look for faults in a configuration, all at once."),
    "doctor": LazyCommand("proxy.cli.doctor:doctor", "Say what is wrong with this machine, and how to mend it."),
    "explain": LazyCommand("proxy.cli.explain:explain", "Show what a request would get, and why; sends nothing."),
    "token": LazyCommand("proxy.cli.token:token", "Mint and print an access token for a route."),
    "serve": LazyCommand("proxy.cli.serve:serve", "Run the proxy until SIGTERM."),
    "request": LazyCommand("proxy.cli.request:request", "Make one call through the running proxy and time it."),
    "logs": LazyCommand("proxy.cli.logs:logs", "Find, follow, check, copy and prune the records of requests."),
    "why": LazyCommand("proxy.cli.why:why", "Say what happened to a request, in words for an auditor."),
    "reconcile": LazyCommand("proxy.cli.reconcile:reconcile", "Ask the bank about requests of unknown outcome."),
    "migration": LazyCommand("proxy.cli.migration:migration", "Move routes off the legacy token endpoint, and back."),
    "status": LazyCommand("proxy.cli.status:status", "Show the running instance on one screen."),
    "health": LazyCommand("proxy.cli.health:health", "Ask the running instance whether it is alive or ready."),
    "simulate": LazyCommand("proxy.cli.simulate:simulate", "Run the bank's simulator, for your own tests."),
    "trigger": LazyCommand("proxy.cli.trigger:trigger", "Make the running simulator misbehave."),
    "assertion": LazyCommand("proxy.cli.assertion:assertion", "Print a signed client assertion."),
    "keys": LazyCommand("proxy.cli.keys:keys", "Make and inspect keys, certificates and signing requests."),
    "callers": LazyCommand("proxy.cli.callers:callers", "Make keys for callers."),
    "admin": LazyCommand("proxy.cli.admin:admin", "Sign in to the console, and make operators."),
    "config": LazyCommand("proxy.cli.config:config", "Show the effective configuration and its schema."),
    "export": LazyCommand(
        "proxy.cli.export:export",
        "Print files that fit this configuration, for systemd, Kubernetes, Prometheus and Grafana.",
    ),
}


# Modules leave next to no garbage; looking for it takes a fifth of the CPU of a command. In the one command that runs
# for months it is looked for a few times: what there is would be 0.3 MB.
_GARBAGE_WHILE_IMPORTING = {"serve": 50_000}
# Groups whose commands are looked through for a mistyped one: they import nothing else.
_GROUPS = ("logs", "migration")


class LazyGroup(click.Group):
    """A group that lists its commands from a table and imports only the one that runs."""

    def __init__(
        self, *arguments: object, lazy_commands: Mapping[str, LazyCommand] = COMMANDS, **options: object
    ) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # passed to click unchanged
        self.lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in table order, which is the order in which a new user needs them."""
        return list(self.lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return the command of that name."""
        lazy = self.lazy_commands.get(cmd_name)
        if lazy is None:
            return None
        module, _, attribute = lazy.target.partition(":")
        usual = gc.get_threshold()
        gc.set_threshold(_GARBAGE_WHILE_IMPORTING.get(cmd_name, 0))
        try:
            command = getattr(import_module(module), attribute)
        finally:
            gc.freeze()  # modules stay: they are not looked through later either
            gc.set_threshold(*usual)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.target} is no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that *args* name; a mistyped one is answered with those that are meant, perhaps."""
        name = args[0]
        if name not in self.lazy_commands and not name.startswith("-"):
            meant = " or ".join(f"'{one}'" for one in self._similar(name))
            ctx.fail(f"No such command '{name}'.{f' Did you mean {meant}?' if meant else ''}")
        return super().resolve_command(ctx, args)

    def _similar(self, name: str) -> list[str]:
        """Return commands that are spelt similarly, and those of that name in `logs` and `migration`."""
        from difflib import get_close_matches  # noqa: PLC0415 - help and completion do without

        inside = []
        for group in (group for group in _GROUPS if group in self.lazy_commands):
            found = self.get_command(click.Context(self), group)
            if isinstance(found, LazyGroup) and name in found.lazy_commands:
                inside.append(f"{group} {name}")
        return [*inside, *get_close_matches(name, list(self.lazy_commands), n=2)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self.lazy_commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the table; click completes options."""
        names = [name for name in self.lazy_commands if name.startswith(incomplete)]
        items = [CompletionItem(name, help=self.lazy_commands[name].summary) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Completion: eval "$(_PAYPROXY_COMPLETE=bash_source payproxy)" (also zsh_source, fish_source).',
)
@click.version_option(__version__, message=f"payproxy %(version)s ({built()})")
def payproxy() -> None:
    """Authenticating reverse proxy for the J.P. Morgan Payments APIs; not affiliated with J.P. Morgan."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line *arguments* (default: the process's own) and exit with a code of `ExitCode`."""
    watch_stdout()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return its exit code, FAILED if stdout takes no output."""
    if sys.stdout is None:
        # The next file that is opened would get its number, and what is printed would go there.
        note("error: stdout is closed: redirect it to a file, or to /dev/null")
        return ExitCode.FAILED
    code = _run(arguments)
    return code if output_written() else ExitCode.FAILED


def _run(arguments: Sequence[str] | None) -> int:
    try:
        result = payproxy.main(args=arguments, prog_name="payproxy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # raised by click for KeyboardInterrupt
        note("interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort, which must not print a foreign exception's text
        if output_written():
            # The text of a foreign exception may hold a token or a key; its traceback lines don't.
            note("".join(traceback.format_tb(error.__traceback__)))
            note(f"internal error: {type(error).__name__}; please report it with the lines above")
        return ExitCode.FAILED
    return result if isinstance(result, int) else ExitCode.OK
