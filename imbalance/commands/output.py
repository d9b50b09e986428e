"""What commands write beside their text."""

import json
import math
import sys
from pathlib import Path
from typing import Any


def write_json(content: Any, place: str) -> None:
    """Write JSON to a file, or print it.

    Args:
      content: Built-in types; NaN and infinity become null, which JSON has no number for.
      place: Path of the file, or "-" for the standard output.
    """
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
    if place == "-":
        print(text)
    else:
        Path(place).write_text(text + "\n", encoding="utf-8")
        print(f"wrote {place}", file=sys.stderr)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
