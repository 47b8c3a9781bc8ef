"""fusemux's command line with every request of the kernel counted and timed: `python -m fusemux.bench.counted OUT WORDS...`

Works with the kernel binding, whose operations are a table.  A request's time is that from its arrival to its
reply, in the event loop; one that has to wait takes others' time with it, so this is for volumes on ramdisks.  At the
end OUT gets one JSON object: {"LOOKUP": {"count": 3, "ns": 12345, "errors": {"2": 1}}, ...}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from fusemux.fuse.kernel.operations import OPERATIONS
from fusemux.fuse.kernel.operations.operation import Operation


class Count:
    """One kind of request."""

    def __init__(self) -> None:
        self.count = 0
        self.ns = 0
        self.errors: dict[int, int] = {}
        self.since = 0

    def around(self, operation: Operation) -> Operation:
        """`operation`, counted."""

        def begin(*args: Any) -> Any:
            self.count += 1
            self.since = perf_counter_ns()
            call = operation.begin(*args)
            if call is None or type(call) is bytes:  # answered, or needs no answer
                self.ns += perf_counter_ns() - self.since
            return call

        def finish(*args: Any) -> Any:
            reply = operation.finish(*args)
            self.ns += perf_counter_ns() - self.since
            return reply

        def fail(*args: Any) -> Any:
            reply = operation.fail(*args)
            self.ns += perf_counter_ns() - self.since
            self.errors[args[-1]] = self.errors.get(args[-1], 0) + 1
            return reply

        return replace(operation, begin=begin, finish=finish, fail=fail)

    def to_json(self) -> dict[str, Any]:
        return {"count": self.count, "ns": self.ns, "errors": self.errors}


def main(out: str, *words: str) -> int:
    from fusemux.cli.main import main as fusemux

    counts: dict[str, Count] = {}
    for opcode, operation in list(OPERATIONS.items()):
        count = counts.setdefault(operation.name, Count())
        OPERATIONS[opcode] = count.around(operation)
    try:
        return fusemux(words)
    finally:
        Path(out).write_text(json.dumps({name: count.to_json() for name, count in counts.items() if count.count}))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
