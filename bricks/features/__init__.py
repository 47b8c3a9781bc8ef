"""Translators of the brick stack that add one property to a brick."""
