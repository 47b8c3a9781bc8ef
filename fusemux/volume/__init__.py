"""Volumes: what they are, how they are stored, and the graphs they become."""
