"""`pyllmc data` as a person types it (cli/data.py)."""

import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pyllmc.cli import main
from pyllmc.data import download as download_module


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        return CliRunner().invoke(main, ["data", *map(str, args)])

    return run


def test_ministories_land_in_their_default_folder(run, tmp_path):
    result = run("prepare", "ministories", "--stories", 40)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        f"data/ministories/ministories_{split}.bin" for split in ("train", "val", "test")
    ]
    assert lines[0].endswith(" tokens  36 documents")
    assert (tmp_path / "data/ministories/ministories.json").exists()
    again = run("prepare", "ministories", "--stories", 40)
    assert again.stdout == result.stdout
    assert "up to date" in again.stderr


def test_another_result_is_replaced_only_with_force(run):
    run("prepare", "ministories", "--stories", 40)
    refused = run("prepare", "ministories", "--stories", 60)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert run("prepare", "ministories", "--stories", 60, "--force").exit_code == 0


def test_text_with_every_option(run, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"story {i}" for i in range(40)))
    result = run(
        *("prepare", "text", "a.txt", "--name", "mine", "--out-dir", "out", "--separator", r"\n\n"),
        *("--tokenizer", "ministories", "--split", "80/10/10", "--seed", 3),
    )
    assert result.exit_code == 0, result.output
    assert [line.split("tokens  ")[1] for line in result.stdout.splitlines()] == [
        "32 documents",
        "4 documents",
        "4 documents",
    ]
    assert (tmp_path / "out" / "mine_train.bin").exists()


def test_text_goes_to_a_folder_of_its_name(run, tmp_path):
    (tmp_path / "a.txt").write_text("one fox ran " * 50)
    result = run("prepare", "text", "a.txt", "--name", "fox", "--tokenizer", "ministories")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "data" / "fox" / "fox.json").exists()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["a.txt", "--name", "x/y"], 2, "not the first part of a file name"),
        (["a.txt", "--name", "x", "--split", "90/10"], 2, "three whole percentages"),
        (["a.txt", "--name", "x", "--split", "a/b/c"], 2, "three whole percentages"),
        (["a.txt", "--name", "x", "--tokenizer", "gpt5"], 2, "no tokenizer 'gpt5'"),
        (["none.txt", "--name", "x", "--tokenizer", "ministories"], 4, "none.txt does not exist"),
        (["bad.txt", "--name", "x", "--tokenizer", "ministories"], 4, "offset 1"),
        (["--name", "x"], 2, "Missing argument"),
    ],
    ids=["name", "two shares", "letters", "tokenizer", "missing", "not utf-8", "no file"],
)
def test_what_cannot_work_is_one_sentence_and_an_exit_code(run, tmp_path, args, code, message):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "bad.txt").write_bytes(b"a\xff")
    result = run("prepare", "text", *args)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_random_writes_random_and_nothing_called_tinystories(run, tmp_path):
    result = run("prepare", "random", "--vocab", 100, "--tokens", 1000)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "data/random/random_train.bin  1,000 tokens"
    assert not list(tmp_path.rglob("*iny*tories*"))


def test_tinystories_without_network_names_the_ways_out(run, monkeypatch, tiktoken_cache):
    monkeypatch.setattr(download_module, "RETRY_AFTER_S", ())
    result = run("prepare", "tinystories", "--url", "http://127.0.0.1:9/x.tar.gz")
    assert result.exit_code == 1
    assert "pyllmc data prepare ministories" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_show_decodes_and_refuses_other_files(run):
    run("prepare", "ministories", "--stories", 40)
    folder = "data/ministories/ministories"
    result = run("show", f"{folder}_val.bin", f"{folder}_test.bin", "--first", 8)
    assert result.exit_code == 0
    assert result.stdout.count("<|endoftext|>") == 2
    assert result.stdout.count("unigram entropy") == 2
    assert run("show", f"{folder}_tokenizer.bin").exit_code == 4


def test_tokenizer_check_says_what_is_missing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    result = run("tokenizer", "check")
    assert result.exit_code == 4
    assert result.stdout.count("missing") == 2
    assert "TIKTOKEN_CACHE_DIR" in result.stderr


def test_tokenizer_check_and_fetch_with_a_full_cache(run, tiktoken_cache):
    for command in ("check", "fetch"):
        result = run("tokenizer", command)
        assert result.exit_code == 0
        assert result.stdout.count("present") == 2


def test_progress_is_a_bar_on_a_terminal_and_stdout_stays_clean(tmp_path):
    master, slave = pty.openpty()
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from pyllmc.cli import main; main()"),
            *("data", "prepare", "ministories", "--stories", "3000", "--out-dir", str(tmp_path)),
        ],
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
        check=True,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    shown = b""
    with open(master, "rb", buffering=0) as terminal:
        while True:
            try:
                shown += terminal.read(4096)
            except OSError:  # the other end is closed
                break
    assert b"telling stories" in shown
    assert b"3,000 of 3,000 stories" in shown
    assert len(done.stdout.splitlines()) == 3
