"""Brick-side translators that break things on purpose."""
