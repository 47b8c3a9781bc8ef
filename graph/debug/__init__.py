"""Translators that watch, delay or break fops."""
