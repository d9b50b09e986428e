"""Attacks on stored results, for durability.py."""
