"""Folders of real data, for experiments that use them where available."""

import os
from pathlib import Path


def real_data(name: str) -> Path | None:
    """The folder ``$IMBALANCE_DATA/name``, such as ``mnist`` or ``wikitext-2``, if it exists.

    None if it does not, or the variable is not set. Nothing is downloaded.

    Raises:
      FileNotFoundError: If the variable is not the path of a folder.
    """
    root = os.environ.get("IMBALANCE_DATA")
    if not root:
        return None
    if not Path(root).is_dir():
        raise FileNotFoundError(
            f"IMBALANCE_DATA is {root!r}, which is not a folder; set it to the one that holds "
            "mnist/, wikitext-2/ and the like, or unset it."
        )
    folder = Path(root) / name
    return folder if folder.is_dir() else None
