"""Tables, numbers and names as text."""

from collections.abc import Collection, Mapping, Sequence


def aligned(columns: Mapping[str, Sequence[str]], left: Collection[str] = ()) -> str:
    """A table with a heading; columns are flushed to the right, those of ``left`` to the left."""
    parts = []
    for heading, cells in columns.items():
        width = max(map(len, (heading, *cells)))
        flush = str.ljust if heading in left else str.rjust
        parts.append([flush(cell, width) for cell in (heading, *cells)])
    return "\n".join("  ".join(row).rstrip() for row in zip(*parts, strict=True))


def with_error(value: float, error: float | None = None) -> str:
    """A number and its standard error, as ``1.234 ± 0.012``; "-" for what is NaN."""
    texts = [f"{value:.4g}"] if error is None else [f"{value:.4g}", f"{error:.2g}"]
    if value != value:
        return "-"
    return " ± ".join("-" if text == "nan" else text for text in texts)


def shown(name: str) -> str:
    """A name as it is printed: in quotes if its ends or other characters would not be seen."""
    return name if name and name.isprintable() and name == name.strip() else repr(name)
