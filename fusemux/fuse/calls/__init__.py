"""The calls of the bridge, by what they are about."""
