"""SQLite on a volume whose bricks die: an example of tests with fusemux's pytest plugin.

    pytest examples/test_sqlite_on_a_dying_brick.py

The program under test is the ledger below, on the real SQLite: money is moved between accounts, and none may ever get lost,
whatever happens to the storage.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

ACCOUNTS, EACH = 8, 100


class Ledger:
    """The program: accounts in an SQLite database."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, amount INTEGER CHECK (amount >= 0))"
        )
        self.db.executemany("INSERT OR IGNORE INTO account VALUES (?, ?)", [(i, EACH) for i in range(ACCOUNTS)])

    def transfer(self, source: int, target: int, amount: int) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("UPDATE account SET amount = amount - ? WHERE id = ?", (amount, source))
            self.db.execute("UPDATE account SET amount = amount + ? WHERE id = ?", (amount, target))
            self.db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # it may have rolled back by itself
                self.db.execute("ROLLBACK")
            raise

    def amounts(self) -> list[int]:
        return [amount for (amount,) in self.db.execute("SELECT amount FROM account ORDER BY id")]


@contextlib.contextmanager
def ledger(volume) -> Iterator[Ledger]:  # type: ignore[no-untyped-def]
    opened = Ledger(volume.path / "ledger.db")
    try:
        yield opened
    finally:
        with contextlib.suppress(sqlite3.Error):  # after a crash its files are gone
            opened.db.close()


def is_sound(ledger: Ledger) -> bool:
    ((verdict,),) = ledger.db.execute("PRAGMA integrity_check")
    return verdict == "ok" and sum(ledger.amounts()) == ACCOUNTS * EACH


@pytest.mark.fusemux(replica=3)
def test_transfers_go_on_while_a_brick_is_down(fusemux_volume) -> None:  # type: ignore[no-untyped-def]
    with ledger(fusemux_volume) as books:
        for number in range(3):
            with fusemux_volume.brick(number).down():
                books.transfer(number, number + 1, 10)
            fusemux_volume.wait_healed()  # else the next brick might take the last good copy with it
        assert books.amounts()[:4] == [90, 100, 100, 110]
        assert is_sound(books)
    assert fusemux_volume.bricks_identical()


@pytest.mark.fusemux(replica=3)
def test_a_brick_that_dies_in_the_middle_of_a_transfer_is_not_noticed(fusemux_volume) -> None:  # type: ignore[no-untyped-def]
    with ledger(fusemux_volume) as books:
        books.db.execute("BEGIN IMMEDIATE")
        books.db.execute("UPDATE account SET amount = amount - 10 WHERE id = 0")
        fusemux_volume.brick(1).kill()
        books.db.execute("UPDATE account SET amount = amount + 10 WHERE id = 1")
        books.db.execute("COMMIT")
        fusemux_volume.brick(1).start()
        assert is_sound(books)
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


@pytest.mark.fusemux(replica=2)
def test_a_transfer_that_finds_no_space_did_not_happen(fusemux_volume) -> None:  # type: ignore[no-untyped-def]
    with ledger(fusemux_volume) as books:
        full = fusemux_volume.faults.error(fop="writev", path="*-journal", errno="ENOSPC")
        with pytest.raises(sqlite3.OperationalError):
            books.transfer(0, 1, 10)
        assert full.fired
        full.clear()
        assert books.amounts() == [EACH] * ACCOUNTS
        books.transfer(0, 1, 10)
        assert is_sound(books)


@pytest.mark.fusemux(replica=3)
@pytest.mark.parametrize("end", ["crash", "power_cut"])
def test_a_transfer_that_was_committed_survives(fusemux_volume, end: str) -> None:  # type: ignore[no-untyped-def]
    with ledger(fusemux_volume) as books:
        books.transfer(0, 1, 10)
        books.db.execute("BEGIN IMMEDIATE")
        books.db.execute("UPDATE account SET amount = 0")  # never committed
        getattr(fusemux_volume, end)()
    with ledger(fusemux_volume) as books:
        assert books.amounts()[:2] == [90, 110]
        assert is_sound(books)
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


@pytest.mark.fusemux(replica=3)
def test_a_sync_that_fails_is_told(fusemux_volume) -> None:  # type: ignore[no-untyped-def]
    failing = {"fop": "fsync", "path": "ledger.db*"}
    with (
        ledger(fusemux_volume) as books,
        fusemux_volume.faults.error(**failing),
        pytest.raises(sqlite3.OperationalError),
    ):
        books.transfer(0, 1, 10)
    with ledger(fusemux_volume) as books:
        assert is_sound(books)
