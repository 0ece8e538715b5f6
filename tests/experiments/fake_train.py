"""A stand-in for train_banded: the same options, logs and exit codes, and no training.

FAKE_PLAN (JSON) says what befalls a cell: `fail`, `diverge`, `kill`, `lie` (success, but the log
stops half-way), `other` (runs with another learning rate), `deaf` (ignores SIGINT) or `slow`.
Every start appends the cell's name and the time to FAKE_STARTS, every end likewise to FAKE_ENDS.
"""

import json
import os
import signal
import sys
import time

LONG = {"-1": "fc1_bandwidth", "-2": "fc2_bandwidth", "-n": "steps", "-b": "batch_size",
        "-t": "sequence_length", "-v": "val_every", "-l": "learning_rate"}  # fmt: skip


def main() -> int:
    words = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    log = words["-o"]
    cell = os.path.basename(log)[len("log_") : -len(".txt")]
    fate = json.loads(os.environ.get("FAKE_PLAN", "{}")).get(cell)
    note("FAKE_STARTS", cell)
    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(1) if fate != "deaf" else None)
    settings = {LONG[key]: int(words[key]) for key in ("-1", "-2", "-n", "-b", "-t", "-v")}
    settings["learning_rate"] = 9.0 if fate == "other" else float(words.get("-l", 3e-4))
    status, code, steps = "done", 0, settings["steps"]
    with open(log, "w") as text, open(log[:-4] + ".jsonl", "w") as lines:

        def write(kind: str, **values: object) -> None:
            lines.write(json.dumps({"type": kind, **values}) + "\n")
            lines.flush()

        write("settings", **settings)
        step = 0
        while True:
            if step % settings["val_every"] == 0 or step == steps:
                text.write(f"s:{step} tel:{5 - 0.1 * step:.4f}\n")
                write("val", step=step, loss=5 - 0.1 * step, tokens=320)
            text.flush()
            if step == steps or (stop and fate != "deaf"):
                status, code = ("done", 0) if step == steps else ("interrupted", 130)
                break
            if fate in ("fail", "diverge", "kill", "lie") and step == 2:
                break
            write("train", step=step, loss=5 - 0.1 * step, ms=20.0, tokens_per_second=1000.0)
            time.sleep(0.2 if fate in ("slow", "deaf") else 0)
            step += 1
        if fate == "diverge":
            status, code = "diverged", 3
        if (fate != "lie" and code != 0) or (status == "done" and step == steps):
            write("end", step=step, status=status)
    note("FAKE_ENDS", cell)
    if fate == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "fail":
        print("fake_train: the disk is on fire", file=sys.stderr)
        return 1
    if fate == "diverge":
        print("fake_train: loss is nan at step 2", file=sys.stderr)
    if code != 3 and status == "done":
        open(words["-c"], "w").close()
    return code


def note(variable: str, cell: str) -> None:
    if variable in os.environ:
        with open(os.environ[variable], "a") as stream:
            stream.write(f"{cell} {time.monotonic()}\n")


sys.exit(main())
