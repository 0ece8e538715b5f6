"""PyTorch as a contestant: torch_peer.py in a child process of any interpreter that has torch."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from pyllmc.bench.rounds import Contestant
from pyllmc.errors import PyllmcError, UsageError

# Mode and precision of what a user of PyTorch could pick.
MODES = (("eager", "fp32"), ("compiled", "fp32"), ("compiled", "bf16"))


def require_torch(python: str) -> None:
    """Raises UsageError when that interpreter cannot import torch."""
    try:
        done = subprocess.run([python, "-c", "import torch"], capture_output=True)
    except OSError as error:
        raise UsageError(
            f"--peer-python {python} cannot be run ({error.strerror}): name a Python interpreter"
        ) from error
    if done.returncode:
        raise UsageError(
            f"{python} cannot import torch: install PyTorch there, or name an interpreter that has "
            "it by --peer-python"
        )


class TorchPeer:
    """A child process that waits between rounds. What it times shares its memory."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            [python, str(Path(__file__).with_name("torch_peer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
        )

    def __enter__(self) -> TorchPeer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child."""
        if self._child.stdin is not None:
            # A request that a dead child never read is still in the buffer.
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._messages.close()

    def contestant(
        self,
        name: str,
        kind: str,
        *,
        repeats: int,
        threads: int,
        precision: str,
        memory: bool = False,
        flop: float = 0.0,
        bytes: float = 0.0,
        tokens: int = 0,
        **config: Any,
    ) -> Contestant:
        """Prepares `kind` ("step", "linear", "loss"; compiling takes about a minute). A round's
        time is the median of `repeats` calls."""
        request = {"do": "prepare", "kind": kind, "threads": threads, "precision": precision}
        ready = self._ask(request | config)
        facts: dict[str, Any] = {"torch": ready["torch"]}

        def run() -> float:
            answer = self._ask({"do": "round", "id": ready["id"], "repeats": repeats})
            if memory:
                facts["peak_memory"] = answer["peak_memory"]
            return float(answer["seconds"])

        return Contestant(
            name, run, flop=flop, bytes=bytes, precision=precision, tokens=tokens, facts=facts
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        line = ""
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            self._child.wait()
            self._messages.seek(0)
            words = self._messages.read().decode(errors="replace").strip().splitlines()
            last = words[-1] if words else f"exit code {self._child.returncode}"
            raise PyllmcError(f"the PyTorch peer ({self._python}) failed: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer
