"""Translators that keep files."""
