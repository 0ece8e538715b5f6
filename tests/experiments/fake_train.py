"""A stand-in for train_banded: the same options, logs and exit codes, and no training.

FAKE_PLAN (JSON) says what befalls a cell: `fail`, `diverge`, `kill`, `lie` (success, but the log
stops half-way), `other` (runs with another learning rate), `deaf` (ignores signals) or `slow`.
A stopped one saves its step beside the checkpoint, and `--resume` goes on from there.
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
    resumed = "--resume" in sys.argv
    given = [word for word in sys.argv[1:] if word != "--resume"]
    words = dict(zip(given[::2], given[1::2], strict=True))
    log = words["-o"]
    cell = os.path.basename(log)[len("log_") : -len(".txt")]
    fate = json.loads(os.environ.get("FAKE_PLAN", "{}")).get(cell)
    note("FAKE_STARTS", cell)
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *who: stop.append(who[0]) if fate != "deaf" else None)
    settings = {LONG[key]: int(words[key]) for key in ("-1", "-2", "-n", "-b", "-t", "-v")}
    settings["learning_rate"] = 9.0 if fate == "other" else float(words.get("-l", 3e-4))
    status, code, steps = "done", 0, settings["steps"]
    saved = os.path.join(words["-c"][: -len(".bin")] + ".state", "state.json")
    state = {"step": 0, "text": 0, "lines": 0}
    if resumed and os.path.exists(saved):
        with open(saved) as stream:
            state = json.load(stream)
    device = [os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ]
    print("from step", state["step"], *device, flush=True)
    with open(log, "a") as text, open(log[:-4] + ".jsonl", "a") as lines:
        text.truncate(state["text"])
        lines.truncate(state["lines"])

        def write(kind: str, **values: object) -> None:
            lines.write(json.dumps({"type": kind, **values}) + "\n")
            lines.flush()

        if state["step"] == 0:
            write("settings", **settings)
        step = state["step"]
        while True:
            text.flush()
            if step < steps and stop and fate != "deaf":
                status, code = "interrupted", 75 if stop[0] == signal.SIGTERM else 130
                os.makedirs(os.path.dirname(saved), exist_ok=True)
                sizes = [os.path.getsize(log), os.path.getsize(log[:-4] + ".jsonl")]
                with open(saved, "w") as stream:
                    json.dump({"step": step, "text": sizes[0], "lines": sizes[1]}, stream)
                break
            if step % settings["val_every"] == 0 or step == steps:
                text.write(f"s:{step} tel:{5 - 0.1 * step:.4f}\n")
                write("val", step=step, loss=5 - 0.1 * step, tokens=320)
            if step == steps:
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
    if code == 0:
        open(words["-c"], "w").close()
    return code


def note(variable: str, cell: str) -> None:
    if variable in os.environ:
        with open(os.environ[variable], "a") as stream:
            stream.write(f"{cell} {time.monotonic()}\n")


sys.exit(main())
