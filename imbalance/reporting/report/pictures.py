"""Pictures inside the page: a third of the size, with no difference that can be seen."""

import base64
import io
from typing import NamedTuple

COLOURS = 256
LARGEST = 40_000_000  # pixels
WIDEST = 1400  # pixels; pictures are 7 inches wide and drawn with 200 dots an inch


class Picture(NamedTuple):
    """A picture as the page has it: an address that holds all of it, width and height in pixels."""

    address: str
    width: int
    height: int


def embedded(png: bytes) -> Picture:
    """A picture for the page.

    Args:
      png: The file.

    Raises:
      ValueError: If it is not a PNG image, or too large.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            image = _on_white(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"it is no picture that can be shown: {error}.") from error
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)))
    small = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/png;base64,{text}", image.width, image.height)


def _on_white(image):
    """Without transparency, which palettes hold badly."""
    from PIL import Image

    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
