"""`pyllmc data`: prepare token files, look at them, and fill the tokenizer's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pyllmc.cli.group import Group
from pyllmc.errors import FormatError, UsageError

if TYPE_CHECKING:
    from pyllmc.data.prepare import Dataset

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
EPILOG = """\
Each source writes NAME_train.bin, NAME_val.bin, NAME_test.bin, NAME_tokenizer.bin and the record
NAME.json. What is there already and was made with the same settings is kept; what was made with
others is refused unless --force is given.
"""


def _output(default: str | None) -> Callable[[F], F]:
    """The options of every source; without a default it is a folder named as the data set."""

    def add(command: F) -> F:
        command = click.option(
            "--force", is_flag=True, help="Make the files anew, whatever is there."
        )(command)
        return click.option(
            "--out-dir",
            type=FILE,
            default=default,
            help="Folder that the files are written to."
            + ("" if default else "  [default: data/NAME]"),
        )(command)

    return add


def _show(dataset: Dataset) -> None:
    for split, facts in dataset.record["splits"].items():
        click.echo(f"{dataset.file(split)}  {facts['tokens']:,} tokens", nl=False)
        count = facts["documents"]
        click.echo(f"  {count:,} document{'s' if count != 1 else ''}" if count else "")


@click.group(cls=Group)
def data() -> None:
    """Make token files from TinyStories, other text or built-in stories.

    \b
    pyllmc data prepare ministories                          no network needed
    pyllmc data prepare text a.txt b.txt --name mine --out-dir data/mine
    pyllmc data show data/ministories/ministories_val.bin
    """


@data.group(cls=Group, epilog=EPILOG)
def prepare() -> None:
    """Tokenize a source into train, val and test files."""


@prepare.command(epilog=EPILOG)
@click.option(
    "--url",
    help="Address of the archive (https, http or file).  [default: the data set's own place]",
)
@click.option("--sha256", help="Refuse the archive unless it has this hash.")
@click.option("--keep-archive", is_flag=True, help="Do not remove the archive at the end.")
@_output("data/tinystories")
def tinystories(
    url: str | None, sha256: str | None, keep_archive: bool, out_dir: Path, force: bool
) -> None:
    """Download TinyStories and tokenize it with GPT-2's vocabulary.

    The archive has 1.5 GB; an interrupted download goes on where it ended. An archive that lies in
    the folder already is used. Its first JSON shard becomes val, the second test, the others train.
    """
    from pyllmc.data.tinystories import URL, prepare_tinystories

    _show(
        prepare_tinystories(
            out_dir, url=url or URL, sha256=sha256, keep_archive=keep_archive, force=force
        )
    )


@prepare.command(epilog=EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--name", required=True, help="First part of the names of the files written.")
@click.option(
    "--separator",
    help="Text between two documents of a file (\\n and \\t are understood); the documents are "
    "then stripped of white space. Without it each file is one document.",
)
@click.option(
    "--tokenizer",
    default="gpt2",
    help="gpt2, ministories, or the path of a .tiktoken file (split with GPT-2's pattern).",
)
@click.option(
    "--split",
    default="90/5/5",
    help="Percentages for train, val and test: consecutive documents, or consecutive tokens when "
    "there are fewer than 20 documents.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Shuffle the documents with this seed before they are split.",
)
@_output(None)
def text(
    files: tuple[Path, ...],
    name: str,
    separator: str | None,
    tokenizer: str,
    split: str,
    seed: int | None,
    out_dir: Path | None,
    force: bool,
) -> None:
    """Tokenize UTF-8 text files.

    An end-of-text token stands before each document. Inside very long documents the text is cut
    where that changes no token; only a run of more than 262,144 characters without a blank is cut
    at that length.
    """
    from pyllmc.data.text import prepare_text

    if Path(name).name != name:
        raise UsageError(f"--name {name!r} is not the first part of a file name")
    try:
        train, val, test = (int(share) for share in split.split("/"))
    except ValueError:
        raise UsageError(
            f"--split {split!r} is not three whole percentages such as 90/5/5"
        ) from None
    if separator is not None:
        separator = separator.replace("\\n", "\n").replace("\\t", "\t")
    _show(
        prepare_text(
            files,
            out_dir or Path("data", name),
            name,
            tokenizer_name=tokenizer,
            separator=separator,
            shares=(train, val, test),
            shuffle_seed=seed,
            force=force,
        )
    )


@prepare.command(epilog=EPILOG)
@click.option("--stories", type=int, default=8000, help="How many, for all three files together.")
@click.option("--seed", type=click.IntRange(min=0), default=1337, help="Which stories are told.")
@_output("data/ministories")
def ministories(stories: int, seed: int, out_dir: Path, force: bool) -> None:
    """Make up children's stories, with a vocabulary of 1,024 tokens.

    Needs no network. The same seed gives the same bytes; no story of val or test is in train.
    """
    from pyllmc.data.ministories import prepare_ministories

    _show(prepare_ministories(out_dir, stories=stories, seed=seed, force=force))


@prepare.command(epilog=EPILOG)
@click.option("--vocab", type=int, default=50257, help="Vocabulary size.")
@click.option(
    "--tokens", type=int, default=1_000_000, help="Training tokens; val and test get a tenth each."
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**63 - 1), default=42, help="Which tokens are drawn."
)
@_output("data/random")
def random(vocab: int, tokens: int, seed: int, out_dir: Path, force: bool) -> None:
    """Draw random tokens: a control on which nothing can be learned."""
    from pyllmc.data.random_tokens import prepare_random

    _show(prepare_random(out_dir, vocab_size=vocab, tokens=tokens, seed=seed, force=force))


@data.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--first", type=click.IntRange(min=0), default=64, help="How many tokens to print.")
def show(files: tuple[Path, ...], first: int) -> None:
    """Show counts, range of ids and the first tokens of token files."""
    from pyllmc.data.statistics import describe

    for number, file in enumerate(files):
        if number:
            click.echo()
        for label, value in describe(file, first):
            click.echo(f"{label:<18}{value}")


@data.group(cls=Group)
def tokenizer() -> None:
    """Check or download GPT-2's vocabulary in tiktoken's cache."""


@tokenizer.command()
def check() -> None:
    """Say whether GPT-2's vocabulary can be loaded without network."""
    from pyllmc.data.tokenizers import cache_folder, gpt2_cache, how_to_fill_cache

    states = gpt2_cache()
    for name, (path, state) in states.items():
        click.echo(f"{name:<14}{state:<9}{path}")
    if any(state != "present" for _, state in states.values()):
        raise FormatError(f"GPT-2's vocabulary is not in {cache_folder()}: {how_to_fill_cache()}")


@tokenizer.command()
def fetch() -> None:
    """Download what is missing of GPT-2's vocabulary into tiktoken's cache."""
    from pyllmc.data.tokenizers import fetch_gpt2, gpt2_cache

    fetch_gpt2()
    for name, (path, state) in gpt2_cache().items():
        click.echo(f"{name:<14}{state:<9}{path}")
