"""`payproxy migration`: move routes off the legacy token endpoint by share, and back."""

import click

from proxy.cli.main import LazyCommand, LazyGroup

COMMANDS = {
    "status": LazyCommand(
        "proxy.cli.migration_status:status", "Show weights, who set them and why, and both sides' tokens."
    ),
    "plan": LazyCommand("proxy.cli.migration_plan:plan", "Show which callers move at which weight, by the log."),
    "set": LazyCommand("proxy.cli.migration_set:set_weight", "Set the share that goes to the modern side."),
    "rollback": LazyCommand(
        "proxy.cli.migration_set:rollback", "Go back to the last weight without a breach, at once."
    ),
    "report": LazyCommand("proxy.cli.migration_report:report", "Show the ramp, ratios, and who still uses legacy."),
    "finish": LazyCommand("proxy.cli.migration_finish:finish", "End a migration: what to change in the file."),
}


@click.group(cls=LazyGroup, lazy_commands=COMMANDS)
def migration() -> None:
    """Move routes off the legacy token endpoint by share, and back in a second."""
