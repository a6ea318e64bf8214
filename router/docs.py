"""`python -m router.docs [--check]`: writes docs/configuration.md from the settings and the command line's statuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from router.config import DEFAULT_FILE, PREFIX, Config

FOLDER = Path(__file__).resolve().parent.parent / "docs"

PAGE = """<!-- Written by `python -m router.docs`. -->

# Configuration

A gateway is told what to do by a file, by the environment and by flags; each is stronger than the one before.

- The file is the one named by `--config` or `{prefix}CONFIG`, or else `{file}` in the working folder, if there is
  one. Relative paths in it start at its folder. A setting that does not exist is an error, in the file.
- The environment variable of a setting is `{prefix}` and its name in capitals.
- The flag of a setting is its name with dashes: `--max-body-bytes`. API keys and the admin key have none, since
  others could read them in a list of processes.

`consilium check` says whether `consilium serve` would work with the settings in force.

```yaml
# {file}
registry: registry/
outcomes: outcomes.jsonl.gz
host: 0.0.0.0
keys: keys.yaml
```

## Settings

| setting | environment | default | meaning |
|---|---|---|---|
{rows}

On any address but loopback (`127.0.0.1`, `::1`, `localhost`) the gateway does not start without API keys. The admin
endpoints are closed without an admin key.

## API keys

`keys` names a YAML list with one entry a key. `consilium keys new NAME` makes a key, shows it once and prints its
entry; the file holds only hashes.

```yaml
- name: ci                # shown in logs
  hash: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  routes: [auto]          # default "*": every route
  experts: "*"            # which experts may answer: a list, or "*"
  rpm: 600                # default: the gateway's rpm
  concurrency: 8          # default: the gateway's concurrency
```

## Variables of the command line

| variable | meaning |
|---|---|
| `{prefix}CONFIG` | the config file, as `--config` |
| `{prefix}URL` | the gateway that `consilium ask` talks to, as `--url` |
| `{prefix}KEY` | the API key that commands use, as `--key` |
| `{prefix}CACHE` | where exported encoders and vectors of outcomes are kept; default: `~/.cache/consilium` |
| `{prefix}ENCODER_KEY` | the key of an OpenAI-compatible `/v1/embeddings` that `index` and `retriever` embed with |
| `{prefix}DATA` | the folder of suites and sets that `consilium eval run` looks into |
| `POCKET_URL` | where the pocket experts are served, up to and including `/v1` |

## Exit statuses

| status | meaning |
|---|---|
| 0 | done, and fine |
| 1 | done, and the answer is no: an invalid registry, a failed check, a wrong sample answer |
| 2 | wrong usage or configuration |
| 3 | the gateway cannot be reached |
| 4 | the gateway, or an expert's server, answered with an error or ended |
| 130 | interrupted |
"""


def page() -> str:
    rows = "\n".join(_row(name, info) for name, info in Config.model_fields.items())
    return PAGE.format(prefix=PREFIX, file=DEFAULT_FILE, rows=rows)


def _row(name: str, info: FieldInfo) -> str:
    return f"| `{name}` | `{PREFIX}{name.upper()}` | {_default(info)} | {_meaning(info)} |"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value: Any = info.default
    return "" if value is None else f"`{value}`"


def _meaning(info: FieldInfo) -> str:
    choices = [choice for choice in get_args(info.annotation) if isinstance(choice, str)]
    said = info.description or ""
    if choices:
        said += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    if SecretStr in get_args(info.annotation):
        said += " Never shown."
    return said


def main(arguments: list[str]) -> int:
    file = FOLDER / "configuration.md"
    if "--check" in arguments:
        if not file.exists() or file.read_text() != page():
            sys.stderr.write("docs/configuration.md is stale; run: python -m router.docs\n")
            return 1
        return 0
    file.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
