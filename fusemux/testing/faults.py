"""Faults as tests set them: `volume.faults.error(fop="writev", path="*.wal", nth=3, errno="ENOSPC")`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Actions", "Fault", "Faults", "NotFired", "described"]

Placed = TypeVar("Placed")


class NotFired(AssertionError):
    """A fault did not fire in time."""


class Actions(ABC, Generic[Placed]):
    """What can be done to fops, in the words of `fusemux fault add`.

    Each takes the same selection: `fop` (a name or several), `path` (a pattern: of the whole path with a slash in it, else of
    the last name), `nth` (only that one, from 1), `times` (at most so often), `rate` (that share, at random, from `seed`), `at`
    (mount, a brick's number or path, or ABOVE:BELOW).
    """

    def error(self, errno: str = "EIO", **which: Any) -> Placed:
        """Answer `errno`, and do nothing."""
        return self._place("error", errno=errno, **which)

    def delay(self, seconds: float, **which: Any) -> Placed:
        """Wait before doing it."""
        return self._place("delay", delay_s=seconds, **which)

    def short(self, **which: Any) -> Placed:
        """Transfer only the first half."""
        return self._place("short", **which)

    def corrupt(self, **which: Any) -> Placed:
        """Flip a bit of what is read or written."""
        return self._place("corrupt", **which)

    def torn(self, **which: Any) -> Placed:
        """Write the first half, then answer EIO."""
        return self._place("torn", **which)

    def full(self, **which: Any) -> Placed:
        """Answer ENOSPC to whatever needs space."""
        return self._place("full", **which)

    def freeze(self, **which: Any) -> Placed:
        """Wait until the fault is cleared."""
        return self._place("freeze", **which)

    def kill(self, crash_point: str | None = None, **which: Any) -> Placed:
        """The serving process dies as by SIGKILL before it calls what is below, or at a crash point of a replica set.

        The points of a transaction are `pre-op-done`, `op-done` and `before-post-op`.
        """
        return self._place("kill", crash_point=crash_point, **which)

    def _place(self, action: str, **words: Any) -> Placed:
        fop = words.pop("fop", None)
        if fop is not None:
            words["fops"] = [fop] if isinstance(fop, str) else list(fop)
        return self._add({"action": action, **words})

    @abstractmethod
    def _add(self, words: dict[str, Any]) -> Placed: ...


def described(value: dict[str, Any]) -> str:
    """A fault and its counts in a line."""
    where = f"at {value['at']}" + (f", path {value['path']}" if value["path"] else "")
    fops = ", ".join(value["fops"]) or "every fop"
    return f"{value['fault']} on {fops} {where}: matched {value['matched']}, fired {value['fired']}"


class Fault:
    """One fault that is set."""

    def __init__(self, order: Callable[..., Any], value: dict[str, Any]) -> None:
        self._order = order
        self.value = value  # as last heard of
        self.gone = False  # cleared, or the server that had it is gone

    @property
    def fired(self) -> int:
        """How often it fired."""
        return int(self.look()["fired"])

    @property
    def matched(self) -> int:
        """How many fops it would have been for."""
        return int(self.look()["matched"])

    def look(self) -> dict[str, Any]:
        if not self.gone:
            for row in self._order("fault-list"):
                if row["id"] == self.value["id"]:
                    self.value = row
        return self.value

    def wait_fired(self, count: int = 1, *, within_s: float = 5) -> int:
        """Wait until it has fired `count` times in all.  Raises NotFired when it does not."""
        if self.gone:
            raise NotFired(f"the fault is cleared: {self}")
        fired = self._order("fault-wait", number=self.value["id"], count=count, within_s=within_s)
        if fired < count:
            self.look()
            raise NotFired(f"not fired {count} times within {within_s:g} s: {self}")
        return int(fired)

    def clear(self) -> None:
        """Take it away; again: nothing."""
        if not self.gone:
            self.look()
            self.gone = True
            self._order("fault-clear", number=self.value["id"])

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __str__(self) -> str:
        return described(self.value)

    def __repr__(self) -> str:
        return f"<Fault {self}>"


class Faults(Actions[Fault]):
    """The faults of a volume, or of one brick.  Iterating gives all that were set, also those that are gone."""

    def __init__(self, order: Callable[..., Any], seeds: Callable[[], int], at: str = "mount") -> None:
        self._order = order
        self._seeds = seeds
        self._at = at
        self._all: list[Fault] = []

    def at(self, place: str) -> Faults:
        """The same for another place: a brick's number, or ABOVE:BELOW."""
        other = Faults(self._order, self._seeds, place)
        other._all = self._all
        return other

    def _add(self, words: dict[str, Any]) -> Fault:
        if "rate" in words:
            words.setdefault("seed", self._seeds())
        return self.known(self._order("fault-add", **{"at": self._at, **words}))

    def known(self, value: dict[str, Any]) -> Fault:
        """A fault that was just set."""
        self._all.append(Fault(self._order, value))
        return self._all[-1]

    def clear(self) -> None:
        """Take away all that were set here."""
        for fault in self._all:
            fault.clear()

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._all))
