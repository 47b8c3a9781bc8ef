"""Translators that add one property to a volume."""
