"""Two programs on one checkpoint: the second is refused and disturbs nothing."""

from __future__ import annotations

import re

from apps.lab import Lab, refusal
from apps.test_stopping import started

ENDLESS = "-n 1000000 -v 0 -g 0 -k 1"


def test_second_program_on_a_checkpoint_is_refused(lab: Lab) -> None:
    with started(lab, ENDLESS, "-c runs/ckpt.bin -o log.txt", until="step    3/") as first:
        for words in ("-c runs/ckpt.bin", "-c runs/../runs/ckpt.bin --resume -o log.txt"):
            log = len(lab.events())
            done = lab.train(ENDLESS, words)
            assert done.returncode == 2
            assert re.fullmatch(
                rf"runs/\S*ckpt.bin is in use by another program \(process {first.pid}\); wait "
                "until it has ended, or write to another file",
                refusal(done),
            )
            assert len(lab.events()) >= log  # the first one's, which goes on with it
        assert first.poll() is None
        assert not list(lab.folder.glob("runs/*.previous"))


def test_other_checkpoints_of_the_folder_are_free(lab: Lab) -> None:
    with started(lab, ENDLESS, "-c ckpt.bin", until="step    3/"):
        lab.trained("-n 1 -g 0 -c ckpt_2.bin")
        lab.trained("-n 1 -g 0")  # without a checkpoint there is nothing to guard


def test_killed_program_leaves_no_lock(lab: Lab) -> None:
    with started(lab, ENDLESS, "-c ckpt.bin", until="step    3/") as first:
        first.kill()
        first.wait()
    assert "resuming from ckpt.state/step_" in lab.trained(
        "-n 1000 -v 0 -g 0 -k 1 -c ckpt.bin --resume --allow-changed steps"
    )
