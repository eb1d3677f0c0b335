"""What people have → facts. Imported as `lorary.intake`."""

from typing import TYPE_CHECKING

from lorary.exports import lazy_names

if TYPE_CHECKING:
    from lorary.intake.source import Generator as Generator
    from lorary.intake.source import LeftOut as LeftOut
    from lorary.intake.source import Source as Source

__all__ = ["Generator", "LeftOut", "Source"]
__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "lorary.intake.source"))
