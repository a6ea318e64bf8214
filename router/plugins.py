"""Finding plug-ins, as the whole project does it: see `experts.plugins`, the lowest layer that has any."""

from __future__ import annotations

from experts.plugins import group_of, known, open_module, own, parse_options

__all__ = ["group_of", "known", "open_module", "own", "parse_options"]
