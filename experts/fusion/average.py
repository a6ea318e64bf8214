"""The mean of the weights of several trained routers ("model soup", Wortsman et al. 2022, arXiv 2203.05482, section 3).

Runs that went on from the same router, or from one another, with other data or seeds end in one basin: their mean often
reads wordings that none of them saw better than each, and costs nothing when it is served.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and safetensors leave parts of their signatures untyped)

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file

from experts.errors import ConfigError
from experts.fusion.checkpoint import stored

KEPT = (".json", ".jinja", ".model", ".txt")
"""What a router's folder holds beside its weights: configuration and tokenizer."""
LEFT = ("training.json", "model.safetensors.index.json")
"""What is said of the first router only, and of how its weights were cut up."""


def average(routers: Sequence[Path], out: Path) -> None:
    """Write to `out` a router whose every weight is the mean of those of `routers`, in the first one's types; whatever
    else its folder needs (configuration, tokenizer) is the first one's.

    Raises ConfigError for fewer than two routers, a folder without weights, weights that are not the same in name and
    shape, or an `out` that is there already.
    """
    if len(routers) < 2:
        raise ConfigError(f"an average needs two routers or more, found {len(routers)}")
    if out.exists():
        raise ConfigError(f"{out}: is there already; name a new folder")
    first = dict(stored(routers[0]))
    summed = {name: tensor.float() for name, tensor in first.items()}
    for folder in routers[1:]:
        others = dict(stored(folder))
        unlike = sorted(
            name
            for name in {*first, *others}
            if name not in first or name not in others or first[name].shape != others[name].shape
        )
        if unlike:
            raise ConfigError(
                f"{folder}: {len(unlike)} weights differ from those of {routers[0]} in name or shape, such as "
                f"{unlike[0]}; only routers that went on from one and the same can be averaged"
            )
        for name, tensor in others.items():
            summed[name] += tensor.float()
    mean = {name: (total / len(routers)).to(first[name].dtype) for name, total in summed.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / out.name
        made.mkdir()
        for file in routers[0].iterdir():
            if file.is_file() and file.suffix in KEPT and file.name not in LEFT:
                shutil.copy2(file, made / file.name)
        save_file(mean, made / "model.safetensors", {"format": "pt"})
        made.rename(out)
