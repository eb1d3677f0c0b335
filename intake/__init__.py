"""What people have → facts. Imported as `lorary.intake`."""

from typing import TYPE_CHECKING

from lorary.exports import lazy_names

if TYPE_CHECKING:
    from lorary.intake.gathering import Gathered as Gathered
    from lorary.intake.gathering import gather as gather
    from lorary.intake.source import Generator as Generator
    from lorary.intake.source import LeftOut as LeftOut
    from lorary.intake.source import Source as Source

_HOMES = {
    "Gathered": "lorary.intake.gathering",
    "Generator": "lorary.intake.source",
    "LeftOut": "lorary.intake.source",
    "Source": "lorary.intake.source",
    "gather": "lorary.intake.gathering",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
