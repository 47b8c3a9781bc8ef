"""SQLite in WAL mode in a volume: writers and a reader in several processes, a writer that is killed, and a check of every sum.

    python -m tests.programs.sqlite DIR [TRANSACTIONS]

Every transaction moves an amount between two accounts, so the sum never changes; a writer acknowledges each commit with one
byte on a pipe, so after a kill the database must hold at least what was acknowledged.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

ACCOUNTS = 50
START = 1000


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("pragma busy_timeout = 60000")
    return connection


def create(path: Path) -> None:
    with contextlib.closing(connect(path)) as connection:
        assert connection.execute("pragma journal_mode = wal").fetchone() == ("wal",)
        connection.execute("create table account (id integer primary key, amount integer not null)")
        connection.execute("create table log (id integer primary key, writer integer, number integer, note blob)")
        connection.executemany("insert into account values (?, ?)", [(place, START) for place in range(ACCOUNTS)])


def write(path: Path, writer: int, transactions: int) -> None:
    """Run in a process of its own; one byte on stdout for each commit."""
    rng = random.Random(writer)
    connection = connect(path)
    for number in range(transactions):
        connection.execute("begin immediate")
        giver, taker, amount = rng.randrange(ACCOUNTS), rng.randrange(ACCOUNTS), rng.randrange(10)
        connection.execute("update account set amount = amount - ? where id = ?", (amount, giver))
        connection.execute("update account set amount = amount + ? where id = ?", (amount, taker))
        connection.execute(
            "insert into log (writer, number, note) values (?, ?, ?)", (writer, number, rng.randbytes(200))
        )
        connection.execute("commit")
        os.write(1, b".")
    connection.close()


def check(path: Path, acknowledged: dict[int, int]) -> None:
    connection = connect(path)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert connection.execute("select sum(amount) from account").fetchone() == (ACCOUNTS * START,)
    for writer, count in acknowledged.items():
        there = [
            row[0] for row in connection.execute("select number from log where writer = ? order by number", (writer,))
        ]
        assert there == list(range(len(there))), f"writer {writer}: transactions are missing in the middle"
        assert len(there) >= count, f"writer {writer}: {count} commits were acknowledged, {len(there)} are there"
    connection.close()


def load(directory: Path, transactions: int = 150) -> None:
    """Raises AssertionError when anything acknowledged is not there."""
    path = directory / "load.db"
    create(path)
    command = [sys.executable, "-m", "tests.programs.sqlite", "--writer", str(path)]
    root = Path(__file__).resolve().parents[2]
    writers = {
        number: subprocess.Popen([*command, str(number), str(transactions)], stdout=subprocess.PIPE, cwd=root)
        for number in range(3)
    }
    reader = connect(path)
    while any(process.poll() is None for process in writers.values()):
        assert reader.execute("select sum(amount) from account").fetchone() == (ACCOUNTS * START,)
    reader.close()
    acknowledged = {number: len(process.communicate()[0]) for number, process in writers.items()}
    assert set(acknowledged.values()) == {transactions}, acknowledged
    check(path, acknowledged)
    acknowledged[9] = killed_writer(command, root, transactions)
    check(path, acknowledged)
    with contextlib.closing(connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.execute("vacuum")
    check(path, acknowledged)
    for name in os.listdir(directory):
        if name.startswith("load.db"):
            os.unlink(directory / name)


def killed_writer(command: list[str], root: Path, transactions: int) -> int:
    """Kill a writer after some commits; how many it had acknowledged."""
    process = subprocess.Popen([*command, "9", "1000000"], stdout=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    seen = len(process.stdout.read(transactions // 3))
    process.send_signal(signal.SIGKILL)
    return seen + len(process.communicate()[0])


if __name__ == "__main__":
    if sys.argv[1] == "--writer":
        write(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        load(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:3]))
