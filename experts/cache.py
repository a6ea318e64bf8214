"""Where this machine keeps what can be made again: exported encoders, vectors of texts."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`$CONSILIUM_CACHE`, `$XDG_CACHE_HOME/consilium`, or `~/.cache/consilium`: the first that is set."""
    own, desktop = os.environ.get("CONSILIUM_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(desktop).expanduser() if desktop else Path.home() / ".cache") / "consilium"
