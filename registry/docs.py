"""`python -m registry.docs [--check]`: writes docs/registry.md and docs/registry.schema.json from the models.

With `--check` nothing is written, and the exit code is 1 where a file on disk is not what would be written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from registry.json_schema import Schema, json_schema
from registry.schema import KINDS

FOLDER = Path(__file__).resolve().parent.parent / "docs"

INTRO = """\
# The registry

A registry declares everything that a gateway can ask. It is one YAML file, or a folder: every `*.yaml` and `*.yml`
under it is read, in the order of their paths; files and folders whose names begin with a dot are not. A file may hold
several documents, divided by `---`. Each document is one *manifest*, and its `kind` says of what.

```yaml
kind: expert
name: qwen-math
provider: vllm
model: Qwen/Qwen2.5-Math-7B-Instruct
endpoints: [http://10.0.0.5:8000/v1]
```

That is a whole registry. Where no `route` is declared there is one called `auto`, over all experts; where no
`encoder` called `default` is declared there is one, with the defaults below. Clients name a route or an expert as
`model`, so those two share their names; `auto:cheap`, `auto:balanced` and `auto:best` select a preset of the route's
policy.

## Reading is strict

Unknown keys are refused, and so are duplicate ones. All problems of all files are reported at once, each with its
file, line and key:

```text
registry/qwen.yaml:7: price.output: must be >= 0, got -1
registry/qwen.yaml:9: endpionts: unknown key; did you mean 'endpoints'?
registry/routes.yaml:3: experts[1]: there is no expert 'qwen-coder'; did you mean 'qwen-code'?
```

`consilium experts check` prints them without starting anything. YAML is read as YAML 1.2: only `true` and `false` are
booleans, so a list of languages may hold `no`. Anchors, aliases and `<<` merges work within one document.

## The environment

`${NAME}` in a value is replaced by an environment variable, `${NAME:-default}` by its default where the variable is
unset or empty, and `$${` stands for `${`. A variable that is not set, and has no default, is a problem that names it.
Inside `[ ]` and `{ }` a reference needs quotes. A document's own `env` gives names for use in that document alone:

```yaml
kind: expert
name: qwen-coder
provider: vllm
model: Qwen/Qwen2.5-Coder-7B-Instruct
env: {HOST: "${QWEN_HOST:-10.0.0.5}"}
endpoints: ["http://${HOST}:8000/v1", "http://${HOST}:8001/v1"]
api_key: ${QWEN_KEY:-none}
```

What came from the environment counts as a secret: messages, logs and the API show `${NAME}` in its place. `kind`,
`name` and `provider` are public, and cannot be references.

## Changing a registry that is in use

A running gateway watches its registry: a change is in force within two seconds, and requests under way finish on what
they began with. A broken change is reported, and what was in force stays in force.

`consilium experts add` and `remove`, and the REST API with the admin key, write to the same files. In a folder a new
manifest becomes `<name>.yaml`; in a single file, one more document. Nothing is written unless the whole registry is
valid afterwards. A manifest that comes over REST may hold neither `serve`, which runs a command, nor references to
the gateway's environment, which would let it be read.

## In an editor

`docs/registry.schema.json` describes every document. With the YAML language server, put this in the first line:

```yaml
# yaml-language-server: $schema=https://example.org/path/to/docs/registry.schema.json
```

or a path relative to the file, as the registries in `examples/` do.
"""


def markdown(schema: Schema) -> str:
    """docs/registry.md, from the schema of `registry.json_schema`."""
    definitions = cast(dict[str, Schema], schema["$defs"])
    parts = [INTRO]
    for kind, model in KINDS.items():
        parts.append(f"## kind: {kind}\n\n{(model.__doc__ or '').strip().splitlines()[0]}\n")
        if not model.provided:
            parts.append(_table(definitions[kind], definitions))
            continue
        variants = {name.split("-", 1)[1]: part for name, part in definitions.items() if name.startswith(f"{kind}-")}
        own = set(model.model_fields)
        common = next(iter(variants.values()))
        meaning = f"What kind of client asks it: {', '.join(variants)}, described below."
        asked = {"type": "string", "description": meaning}
        common = {**common, "properties": {**common["properties"], "provider": asked}}
        parts.append(_table(common, definitions, only=own))
        for provider, part in variants.items():
            parts.append(f"### provider: {provider}\n")
            theirs = {key for key in part["properties"] if key not in own}
            parts.append(_table(part, definitions, only=theirs) if theirs else "No keys of its own.\n")
    return "\n".join(parts)


def _table(part: Schema, definitions: dict[str, Schema], only: set[str] | None = None) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    rows += ["| " + " | ".join(row) + " |" for row in _rows(part, definitions, "", only)]
    return "\n".join(rows) + "\n"


def _rows(
    part: Schema, definitions: dict[str, Schema], prefix: str, only: set[str] | None
) -> Iterator[tuple[str, str, str, str]]:
    required = set(part.get("required", ()))
    for name, found in cast(dict[str, Schema], part["properties"]).items():
        if only is not None and name not in only:
            continue
        default = "**required**" if name in required else _default(found)
        meaning = str(found.get("description", "")).replace("\n", " ").replace("|", "\\|")
        yield f"`{prefix}{name}`", _type(found, definitions), default, meaning
        items = found.get("items")
        inner, mark = (_map_inside(items, definitions), "[]") if items else (_map_inside(found, definitions), "")
        if inner is not None:
            yield from _rows(inner, definitions, f"{prefix}{name}{mark}.", None)


def _map_inside(part: Schema, definitions: dict[str, Schema]) -> Schema | None:
    for branch in (part, *part.get("anyOf", ())):
        target = definitions[branch["$ref"].rsplit("/", 1)[-1]] if "$ref" in branch else branch
        if "properties" in target and "$ref" in branch:
            return target
    return None


def _default(part: Schema) -> str:
    if "default" not in part or part["default"] in (None, {}, [], ""):
        return ""
    if isinstance(part["default"], dict):
        return ""
    return f"`{json.dumps(part['default'], ensure_ascii=False)}`"


def _bare(part: Schema) -> Schema:
    """A number without the alternative of writing it as a reference."""
    return part["anyOf"][0] if "anyOf" in part else part


def _type(part: Schema, definitions: dict[str, Schema]) -> str:
    if "$ref" in part:
        return _type(definitions[part["$ref"].rsplit("/", 1)[-1]], definitions)
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{choice}`" for choice in part["enum"])
    if "anyOf" in part:
        branches = [b for b in part["anyOf"] if b.get("$ref") != "#/$defs/reference" and b.get("type") != "null"]
        if {"type": "string"} in branches and any(branch.get("type") == "number" for branch in map(_bare, branches)):
            return "text"  # Words that may be written without quotes.
        return " or ".join(dict.fromkeys(_type(branch, definitions) for branch in branches))
    match part.get("type"):
        case "array":
            return f"list of {_type(part.get('items', {}), definitions)}"
        case "object":
            values: object = part.get("additionalProperties")
            inner = cast(Schema, values) if isinstance(values, dict) else None
            return f"map of {_type(inner, definitions)}" if inner and "properties" not in part else "map"
        case "integer":
            return "whole number"
        case "string":
            return "secret" if part.get("format") == "password" else "text"
        case "boolean":
            return "true, false"
        case None:
            return "any"
        case other:
            return str(other)


def written() -> dict[str, str]:
    """The text of every generated file, by name."""
    schema = json_schema()
    return {
        "registry.md": markdown(schema),
        "registry.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
    }


def main(arguments: Sequence[str]) -> int:
    stale: list[str] = []
    for name, text in written().items():
        file = FOLDER / name
        if "--check" not in arguments:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        sys.stderr.write(f"docs/{name} is stale; run: python -m registry.docs\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
