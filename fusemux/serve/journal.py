"""Where the log goes: stderr, a file, or syslog.

Lines are laid out as GlusterFS's: time, level, who, what.  A log file is opened anew when it was renamed away (logrotate).
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import sys
import time

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["LEVELS", "open_log", "set_level"]

LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
_LETTERS = {10: "D", 20: "I", 30: "W", 40: "E", 50: "C"}


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        letter = _LETTERS.get(record.levelno, "T")
        text = f"[{moment}.{int(record.msecs * 1000):06d} +0000] {letter} [{record.name}] {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _File(logging.handlers.WatchedFileHandler):
    def _open(self) -> io.TextIOWrapper:
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return open(fd, "a", encoding=self.encoding, errors=self.errors)


def open_log(target: str | None, level: str, *, background: bool) -> None:
    """Send the log to `target` (a path or `syslog`); None: to syslog in the background, else to stderr.

    Raises FusemuxError when the file cannot be written.
    """
    logger = logging.getLogger("fusemux")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(_handler(target or ("syslog" if background else None)))
    logger.propagate = False
    set_level(level)


def _handler(target: str | None) -> logging.Handler:
    handler: logging.Handler
    if target is None:
        handler = logging.StreamHandler(sys.stderr)
    elif target == "syslog":
        if not os.path.exists("/dev/log"):
            return logging.NullHandler()
        handler = logging.handlers.SysLogHandler("/dev/log")
        handler.setFormatter(logging.Formatter(f"fusemux[{os.getpid()}]: %(levelname)s %(name)s: %(message)s"))
        return handler
    else:
        try:
            handler = _File(target, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise FusemuxError(f"log file {target}: {error.strerror}; choose another one with -o log-file=") from None
    handler.setFormatter(_Format())
    return handler


def set_level(level: str) -> None:
    """One of LEVELS."""
    logging.getLogger("fusemux").setLevel(LEVELS[level])
