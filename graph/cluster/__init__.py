"""Translators that make one volume of several children."""
