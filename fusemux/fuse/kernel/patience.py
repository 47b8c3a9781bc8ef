"""Whether to look again for a request before going to sleep: pure, decided from how often that paid.

Going to sleep and being woken costs more than the request it waits for, on virtual machines several times more.  A
program that calls one after the other sends its next request 10 to 20 µs after it got its answer; looking (an epoll_wait
that does not wait, 0.6 µs, or with one mount a read(2), which counts as two looks) finds it.  Where requests come more
slowly looking is in vain; then it is only tried again from time to time.
"""

from __future__ import annotations

__all__ = ["LOOKS", "Patience"]

LOOKS = 64  # looks in a row: about as long as sleeping and waking would cost
_CREDIT_MAX = 8
_REST = 32  # sleeps without looking before it is tried again


class Patience:
    """`looks` is how often to look in vain before sleeping; tell it with `paid` and `failed` what came of it."""

    __slots__ = ("_credit", "_rest", "looks")

    def __init__(self) -> None:
        self.looks = LOOKS
        self._credit = 1
        self._rest = 0

    def paid(self) -> None:
        """A request was found after looking in vain at least once."""
        if self._credit < _CREDIT_MAX:
            self._credit += 1

    def failed(self) -> None:
        """Nothing was found: the loop goes to sleep."""
        if self.looks:
            self._credit -= 1
            if self._credit <= 0:
                self.looks, self._rest = 0, _REST
            return
        self._rest -= 1
        if self._rest <= 0:
            self.looks, self._credit = LOOKS, 1
