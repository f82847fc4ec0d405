"""`payproxy logs`: find, follow, check, copy and prune the records in the request log's database."""

import click

from proxy.cli.main import LazyCommand, LazyGroup

COMMANDS = {
    "search": LazyCommand("proxy.cli.logs_search:search", "Find records by what is known of a request."),
    "tail": LazyCommand("proxy.cli.logs_tail:tail", "Show the newest records, and follow."),
    "show": LazyCommand("proxy.cli.logs_show:show", "Show one record as a timeline: was it sent?"),
    "verify": LazyCommand("proxy.cli.logs_verify:verify", "Check the chain of records and its signatures."),
    "prove": LazyCommand("proxy.cli.logs_prove:prove", "Tell whether a file is the body of a request."),
    "backup": LazyCommand("proxy.cli.logs_backup:backup", "Copy the database's months, and verify the copy."),
    "prune": LazyCommand("proxy.cli.logs_prune:prune", "Delete whole months; a record says which."),
}


@click.group(cls=LazyGroup, lazy_commands=COMMANDS)
def logs() -> None:
    """Find, follow, check, copy and prune the records of the request log."""
