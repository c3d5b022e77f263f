"""The two figures: error against passes, and the norms while the GAN starts."""

from pathlib import Path
from typing import Any


def draw(results: dict[str, Any], out: Path) -> None:
    """Writes both figures."""
