"""A group of commands as the whole command line shows them."""

from __future__ import annotations

import click


class Group(click.Group):
    """Lists its commands as they were added, each with the whole first paragraph of its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(one)) for name, one in self.commands.items()])


def summary(command: click.Command) -> str:
    """The first paragraph of a command's help, as one line."""
    return " ".join((command.help or "").split("\n\n")[0].split())
