"""The command line `pyllmc`: one file a command, imported when that command is asked for."""

from __future__ import annotations

import errno
import importlib
import keyword
import sys
import traceback
from typing import Any

import click

import pyllmc
from pyllmc.errors import PyllmcError

# Name → line in the list of commands, told here so that listing them imports none.
COMMANDS = {
    "data": "Make token files from TinyStories, other text or built-in stories.",
    "model": "Write a model's initial weights.",
    "matrix": "Run, watch and stop the runs of an experiment.",
    "watch": "Watch a running experiment on the terminal.",
    "parse": "Read training logs into one table.",
    "report": "Write an experiment's README.md, charts and report.html from its logs.",
    "inspect": "Show what a model or checkpoint holds.",
    "export": "Write a model or an experiment's runs in other programs' formats.",
    "import": "Read a model of another program.",
    "bench": "Measure the speed of pyllmc on this machine's processors.",
    "doctor": "Show what is installed, what was found and what is missing.",
}

HELP = """Train GPT-2-like models with banded MLP weights and compare the runs.

\b
From text to a report:
  pyllmc data prepare ministories     token files, no network needed
  pyllmc matrix run runs/demo         train every run of the experiment
  pyllmc report runs/demo             its tables, charts and README.md

\b
Looking closer:
  pyllmc matrix run --dry-run         what would run, and why
  pyllmc watch runs/demo              how far each run is
  pyllmc parse runs/demo/logs         the losses as a table
  pyllmc inspect model.bin            shape and densities of a checkpoint

The programs train_banded and generate_banded train and sample one model.
"""

EPILOG = """\b
Exit codes: 0 done, 1 some runs failed or a file could not be written,
2 wrong usage, 3 diverged, 4 bad or missing file, 5 no such device,
75 stopped or not finished, to be started again, 130 interrupted.
"""


class LazyGroup(click.Group):
    """The main group: loads a command when it is used and reports every error in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = getattr(importlib.import_module(f"pyllmc.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=COMMANDS, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            click.echo("pyllmc: interrupted", err=True)
            ctx.exit(130)
        except PyllmcError as error:
            self.fail(ctx, str(error), error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader went away: click ends quietly
            where = f"{error.filename}: " if error.filename else ""
            self.fail(ctx, f"{where}{error.strerror or error}", PyllmcError.exit_code)

    def fail(self, ctx: click.Context, sentence: str, exit_code: int) -> None:
        if ctx.params.get("debug"):
            traceback.print_exc()
        click.echo(f"pyllmc: {sentence}", err=True)
        ctx.exit(exit_code)


@click.group(
    cls=LazyGroup,
    help=HELP,
    epilog=EPILOG,
    context_settings={
        "auto_envvar_prefix": "PYLLMC",
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 100,
    },
)
@click.version_option(pyllmc.__version__, prog_name="pyllmc", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, show_default=False, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Replaced by HELP; `debug` is read where errors are caught."""
