"""The command line: its surface, its start-up cost and how it reports errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

import pyllmc
from pyllmc import _core, cli, errors
from pyllmc import programs as program_files
from pyllmc.cli.group import summary
from pyllmc.cli.matrix_options import DEFAULT_FOLDER

SURFACE = Path(__file__).parent / "cli_surface.txt"


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.main, list(args), prog_name="pyllmc")


def walk(command: click.Command, path: str) -> list[str]:
    """One line a command: its path, its arguments, its options."""
    parameters = sorted(
        max(p.opts, key=len) if isinstance(p, click.Option) else f"<{p.name}>"
        for p in command.params
    )
    lines = [" ".join([path, *parameters])]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            lines += walk(child, f"{path} {name}")
    return lines


def flags(program: Path) -> str:
    """A program's name and the flags that its help lists, in that order."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    listed = re.findall(r"^ +(-\S.*?)(?: [A-Z]+)?  ", done.stdout, re.MULTILINE)
    return " ".join([program.name, *(flag for line in listed for flag in line.split(", "))])


def test_commands_and_flags_are_those_on_record(programs: SimpleNamespace) -> None:
    """A flag that appears or vanishes on purpose is put on record in cli_surface.txt."""
    surface = walk(cli.main, "pyllmc")
    surface += [flags(programs.train_banded), flags(programs.generate_banded)]
    assert surface == SURFACE.read_text().splitlines()


def test_help_lists_every_command_with_its_line() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for name, line in cli.COMMANDS.items():
        assert f"  {name}" in result.output
        assert line in " ".join(result.output.split())
    assert "pyllmc report runs/demo" in result.output
    assert "Exit codes: 0 done" in result.output


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_line_of_a_command_begins_its_own_help(name: str) -> None:
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    assert summary(command) == cli.COMMANDS[name]


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("matrix", ["run", "status", "logs", "cancel", "script", "list"]),
        ("data prepare", ["tinystories", "text", "ministories", "random"]),
        ("export", ["hf", "llmc", "runs"]),
    ],
)
def test_group_lists_its_commands_in_order_and_uncut(group: str, names: list[str]) -> None:
    listed = invoke(*group.split(), "--help").output.split("Commands:\n")[1].split("\n\n")[0]
    assert re.findall(r"^  (\w+) ", listed, re.MULTILINE) == names
    assert "..." not in listed


@pytest.mark.parametrize(
    "command",
    [
        *(f"matrix {name}" for name in ("run", "status", "logs", "cancel", "script")),
        "watch",
        "report",
        "export runs --to tensorboard --out tb",
    ],
)
def test_default_folder_is_told_and_named_where_it_is_missing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = " ".join(invoke(*command.split(), "--help").output.split())
    assert f"FOLDER defaults to {DEFAULT_FOLDER}." in told
    result = invoke(*command.split())
    assert result.exit_code == 2
    assert f"{DEFAULT_FOLDER}, which FOLDER defaults to, holds no matrix.toml" in result.stderr


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=" ".join)
def test_help_loads_no_heavy_package(command: list[str]) -> None:
    code = (
        "import sys; from pyllmc.cli import main; "
        f"main({[*command, '--help']!r}, prog_name='pyllmc', standalone_mode=False); "
        "print({'pandas', 'matplotlib', 'tiktoken'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("Usage: pyllmc")
    assert done.stderr == "set()\n"


def test_version_is_the_packages() -> None:
    assert invoke("--version").output == f"pyllmc {pyllmc.__version__}\n"


def test_mistyped_command_is_answered_with_the_right_one() -> None:
    result = invoke("inspcet")
    assert result.exit_code == 2
    assert "No such command 'inspcet'. Did you mean 'inspect'?" in result.stderr


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A command `broken` that raises its module's `error`."""
    module = ModuleType("pyllmc.cli.broken")

    @click.command()
    def command() -> None:
        raise module.error

    vars(module)["broken"] = command
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "broken", "Fails.")
    return module


@pytest.mark.parametrize(
    ("error", "exit_code", "sentence"),
    [
        (errors.PyllmcError("two runs failed"), 1, "two runs failed"),
        (errors.WriteError("cannot write a.bin"), 1, "cannot write a.bin"),
        (errors.UsageError("T = 300 exceeds 256"), 2, "T = 300 exceeds 256"),
        (errors.DivergedError("step 7: loss is nan"), 3, "step 7: loss is nan"),
        (errors.FormatError("a.bin is empty"), 4, "a.bin is empty"),
        (errors.DeviceError("no GPU"), 5, "no GPU"),
        (PermissionError(13, "Permission denied", "a.bin"), 1, "a.bin: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_error_is_one_sentence_and_an_exit_code(
    broken: ModuleType, error: BaseException, exit_code: int, sentence: str
) -> None:
    vars(broken)["error"] = error
    result = invoke("broken")
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr == f"pyllmc: {sentence}\n"


def test_debug_adds_the_traceback(broken: ModuleType) -> None:
    vars(broken)["error"] = errors.FormatError("a.bin is empty")
    result = invoke("--debug", "broken")
    assert result.exit_code == 4
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.endswith("pyllmc: a.bin is empty\n")


def test_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "from pyllmc.cli import main; main(['doctor', '--json'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b""


def test_doctor_names_core_programs_and_tokenizer_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    result = invoke("doctor", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["pyllmc"] == pyllmc.__version__
    assert Path(facts["core"]["path"]).is_file()
    assert {"kernels", "compiler"} <= set(facts["core"])
    assert facts["programs"]["train_banded"] == str(program_files.train_banded_path())
    assert facts["tiktoken"] == {
        "cache": str(tmp_path),
        "vocab.bpe": "missing",
        "encoder.json": "missing",
    }
    assert facts["problems"] == []


def test_doctor_sees_a_filled_tokenizer_cache(tiktoken_cache: Path) -> None:
    facts = json.loads(invoke("doctor", "--json").stdout)
    assert facts["tiktoken"]["vocab.bpe"] == facts["tiktoken"]["encoder.json"] == "present"


def test_doctor_fails_when_a_program_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_files, "_FOLDER", tmp_path)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert f"the program {tmp_path}/train_banded is missing: run `make build`" in result.stderr


def test_doctor_fails_on_a_core_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyllmc, "__version__", "9.9")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert f"of version {_core.build_info()['version']}, the package of 9.9" in result.stderr


def test_console_script_becomes_the_program(tmp_path: Path) -> None:
    program = tmp_path / "train_banded"
    program.write_text('#!/bin/sh\necho "$OMP_WAIT_POLICY" "$@"\nexit 3\n')
    program.chmod(0o755)
    code = (
        "import pathlib, sys; from pyllmc import programs; "
        "programs._FOLDER = pathlib.Path(sys.argv.pop(1)); programs.exec_train_banded()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path, "--steps", "10"],
        env={**os.environ, "OMP_WAIT_POLICY": "here"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "here --steps 10\n", "")
