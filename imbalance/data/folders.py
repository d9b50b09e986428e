"""Folders of real data, for experiments that use them where available."""

import os
from pathlib import Path

from imbalance.data.published import PUBLISHED


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


def paper_data(name: str) -> Path:
    """The folder ``$IMBALANCE_DATA/name``, without which nothing runs at the paper's size.

    Args:
      name: Name of the folder, one of `imbalance.data.published.PUBLISHED`.

    Raises:
      FileNotFoundError: If it does not exist; the message says how it looks and where to get it.
      KeyError: If there is no published data set of that name.
    """
    wanted = PUBLISHED[name]
    if (folder := real_data(name)) is not None:
        return folder
    root = os.environ.get("IMBALANCE_DATA")
    where = f"{root} has no folder {name}/" if root else "IMBALANCE_DATA is not set"
    what = "make it" if root else f"set it to a folder with {name}/ in it"
    raise FileNotFoundError(
        f"the paper's size needs {name}, and {where}; {what}, with {wanted.layout}. To get it: "
        f"{wanted.source}. See docs/data.md; `imbalance data` checks what is there."
    )
