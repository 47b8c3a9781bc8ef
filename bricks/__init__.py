"""Bricks: storage, the translators that run beside it, and the processes that serve them."""

if __name__ == "bricks":
    raise ImportError("import this package as fusemux.bricks, not as bricks")
