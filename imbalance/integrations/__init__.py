"""Losses by class where people train: `scalars` for any logger, and callbacks for two libraries.

The modules `huggingface`, `lightning` and `pytorch` need the library that they are named after.
"""

from imbalance.integrations.logs import scalars

__all__ = ["scalars"]
