"""The flags of both programs are on record: none appears, vanishes or changes its default."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from apps.lab import Lab

import pyllmc

# Group, then names and default of each flag as --help has them.
TRAIN_BANDED = """
Band (bandwidths are measured on the hidden axis; 0 = dense)
-1 -w --fc1-bandwidth N [0]
-2 --fc2-bandwidth N [0]
-d --dense N [0]
--mask-init N [1]
--execution NAME [band]
--pattern NAME [band]
--mask-seed N [1337]
--init-scale NAME [none]
Files
-e --model FILE [model.bin]
-c --checkpoint FILE [none]
-k --checkpoint-every N [0]
--resume
--allow-changed NAMES [none]
-i --train-data GLOB [data/tinystories/TinyStories_train.bin]
-j --val-data GLOB [data/tinystories/TinyStories_val.bin]
--test-data GLOB [none]
-o --log FILE [none]
--tokenizer FILE [beside the training data]
Training
-n --steps N [-1]
-b --batch-size N [4]
-t --sequence-length N [min(1024, maxT)]
--accumulate N [1]
--precision NAME [fp32]
-l --learning-rate X [0.0003]
--warmup N [0]
--min-lr X [constant rate]
--weight-decay X [0]
--grad-clip X [0]
Validation and samples
-v --val-every N [20]
-m --val-batches N [20]
--train-eval-batches N [0]
-s --sample-every N [20]
-g --sample-length N [64]
Seeds and machine
--seed N
--init-seed N [the model's, else 1337]
--data-seed N [42]
--device NAME [auto]
--threads N [all processors]
"""
GENERATE_BANDED = """
Text
-p --prompt TEXT [an end-of-text token]
-n --tokens N [256]
--precision NAME [fp32]
--temperature X [1]
--top-k N [0]
-s --seed N [0]
Files and machine
-e --checkpoint FILE [checkpoint_banded.bin]
--tokenizer FILE [first that fits beside -e, in ., in data/*]
--device NAME [auto]
--threads N [all processors]
"""
SURFACES = {"train_banded": TRAIN_BANDED, "generate_banded": GENERATE_BANDED}


def run(programs: SimpleNamespace, program: str, word: str, lab: Lab) -> str:
    done = lab.run([str(getattr(programs, program)), word])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("program", SURFACES)
def test_flags_groups_and_defaults_are_those_on_record(
    program: str, programs: SimpleNamespace, lab: Lab
) -> None:
    help_text = run(programs, program, "--help", lab)
    assert run(programs, program, "-h", lab) == help_text
    seen = []
    for line in help_text.splitlines():
        flag = re.fullmatch(r"  ((?:-\w, )?(?:-\w, )?--[\w-]+(?: [A-Z]+)?) +\S.*?( \[.+\])?", line)
        if flag and not re.search("--(help|version)$", flag[1]):
            seen.append(flag[1].replace(",", "") + (flag[2] or ""))
        elif line in SURFACES[program].splitlines()[1:]:
            seen.append(line)
    assert seen == SURFACES[program].split("\n")[1:-1]
    # Every mention of a flag is one of the table's, or of --help and --version.
    listed = re.findall(r"(?<=\s)--[\w-]+", " " + help_text)
    assert set(listed) == set(re.findall(r"--[\w-]+", SURFACES[program])) | {"--help", "--version"}
    assert max(map(len, help_text.splitlines())) <= 100
    assert "Exit codes: 0 done" in help_text


@pytest.mark.parametrize("program", SURFACES)
def test_version_is_the_packages(program: str, programs: SimpleNamespace, lab: Lab) -> None:
    assert run(programs, program, "--version", lab) == f"{program} {pyllmc.__version__}\n"


def test_short_and_long_names_mean_the_same(lab: Lab) -> None:
    def settings(words: str) -> list[str]:
        table = lab.trained(words).split("val loss")[0]
        return [row for row in table.splitlines() if row.startswith("|") and " free " not in row]

    short = settings(
        "-e model.bin -c ckpt.bin -k 2 -i data/tinystories/TinyStories_train.bin"
        " -j data/tinystories/TinyStories_val.bin -o log.txt -n 3 -b 2 -t 8 -l 1e-3 -v 2 -m 3"
        " -s 2 -g 5 -1 24 -2 40 -d 0"
    )
    long = settings(
        "--model model.bin --checkpoint ckpt.bin --checkpoint-every 2"
        " --train-data data/tinystories/TinyStories_train.bin"
        " --val-data data/tinystories/TinyStories_val.bin --log log.txt --steps 3 --batch-size 2"
        " --sequence-length 8 --learning-rate 1e-3 --val-every 2 --val-batches 3 --sample-every 2"
        " --sample-length 5 --fc1-bandwidth 24 --fc2-bandwidth 40 --dense 0"
    )
    assert short == long
    assert (
        settings(
            "-w 24 --fc2-bandwidth=40 --steps=3 --batch-size=2 -t 8 -l 1e-3 -v 2"
            " -m 3 -s 2 -g 5 --checkpoint=ckpt.bin -k 2 --log=log.txt"
        )
        == long
    )
