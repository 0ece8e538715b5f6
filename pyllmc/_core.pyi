# The compiled core (csrc/bindings/) documents itself; to the type checker its contents are Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
