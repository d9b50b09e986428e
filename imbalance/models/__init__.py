"""Architectures, as flax modules that map inputs to logits."""
