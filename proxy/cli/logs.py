"""`payproxy logs`: find, follow, check, copy and prune the records in the request log's database."""

import click

from proxy.cli.main import LazyGroup, Place

COMMANDS = {
    "search": Place("proxy.cli.logs_search:search", "Find records by what is known of a request."),
    "tail": Place("proxy.cli.logs_tail:tail", "Show the newest records, and follow."),
    "show": Place("proxy.cli.logs_show:show", "Show one record as a timeline: was it sent?"),
    "verify": Place("proxy.cli.logs_verify:verify", "Check the chain of records and its signatures."),
    "prove": Place("proxy.cli.logs_prove:prove", "Tell whether a file is the body of a request."),
    "backup": Place("proxy.cli.logs_backup:backup", "Copy the database's months, and verify the copy."),
    "prune": Place("proxy.cli.logs_prune:prune", "Delete whole months; a record says which."),
}


@click.group(cls=LazyGroup, places=COMMANDS)
def logs() -> None:
    """Find, follow, check, copy and prune the records of the request log."""
