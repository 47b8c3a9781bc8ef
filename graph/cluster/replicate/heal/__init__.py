"""Healing: making the copies of one replica set equal again."""
