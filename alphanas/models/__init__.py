"""Models in: the zoo, a user's own Flax or JAX model, weights from and to files.

The package loads neither flax nor orbax when it is imported; what needs them imports them when it is called.
"""

from __future__ import annotations

from alphanas.models import zoo
from alphanas.models.lifting import Lifted, lift, lift_with_report

__all__ = ["Lifted", "lift", "lift_with_report", "zoo"]
