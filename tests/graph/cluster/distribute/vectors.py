"""What was captured from GlusterFS 10.3, as these tests read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["VECTORS", "VOLUMES"]

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "data" / "dht-vectors.json").read_text(encoding="utf-8")
)
VOLUMES: dict[str, Any] = VECTORS["volumes"]
