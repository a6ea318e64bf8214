"""`routerbench`: RouterBench's wide tables (arXiv 2403.12031), one query a row.

Columns: `sample_id`, `prompt`, `eval_name`, per model `MODEL` (performance, 0 to 1), `MODEL|model_response` and
`MODEL|total_cost` (USD), and `oracle_model_to_route_to`. Read from Parquet, CSV, or the published pickles: those only
through an unpickler that knows the classes of pandas' and numpy's tables and refuses everything else, because a pickle
can otherwise run any code.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from evals.outcomes.formats._columns import header, number_of, records
from evals.outcomes.loaded import Loaded, Row
from experts.errors import ConfigError

COST, RESPONSE, ORACLE = "|total_cost", "|model_response", "oracle_model_to_route_to"
OWN = frozenset({"sample_id", "prompt", "eval_name", "split", ORACLE})
TABLE_PARTS = frozenset({
    ("builtins", "slice"), ("copyreg", "_reconstructor"), ("builtins", "object"),
    ("numpy", "dtype"), ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("pandas", "DataFrame"), ("pandas", "Index"), ("pandas", "RangeIndex"), ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"), ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"), ("pandas.core.indexes.numeric", "Int64Index"),
    ("pandas.core.internals.managers", "BlockManager"), ("pandas.core.internals.blocks", "new_block"),
    ("pandas._libs.internals", "_unpickle_block"), ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    ("pandas.core.arrays.string_", "StringArray"), ("pandas.core.arrays.string_", "StringDtype"),
    ("pandas", "StringDtype"), ("pandas.arrays", "StringArray"), ("pandas.core.arrays.numpy_", "NumpyExtensionArray"),
})  # fmt: skip
"""What a pickled table of numbers and texts is made of."""


def recognises(path: Path) -> bool:
    if path.name.startswith("routerbench") and path.suffix == ".pkl":
        return True
    columns = header(path)
    return "eval_name" in columns and any(column.endswith(COST) for column in columns)


def read(path: Path, experts: Sequence[str] = ()) -> Loaded:
    loaded, named = Loaded(), list(experts)
    for position, (line, record) in enumerate(_records(path, loaded), 1):
        if not named:
            named = [name for name in record if name not in OWN and not name.endswith((COST, RESPONSE))]
            named = [name for name in named if name + COST in record] or named
        row: Row = {
            "id": str(record.get("sample_id", position)), "task": str(record.get("eval_name") or ""),
            "prompt": _prompt(record.get("prompt")), "scores": {}, "cost_usd": {}, "response_chars": {},
        }  # fmt: skip
        if record.get("split"):
            row["split"] = str(record["split"])
        try:
            for expert in named:
                _cell(row, expert, record)
        except ValueError as fault:
            loaded.refuse(path, line, str(fault))
            continue
        loaded.keep(path, line, row)
    return loaded


def _cell(row: Row, expert: str, record: dict[str, Any]) -> None:
    try:
        score, cost = number_of(record.get(expert)), number_of(record.get(expert + COST))
    except ValueError as fault:
        raise ValueError(f"{expert}: {fault}") from fault
    if score is not None:
        row["scores"][expert] = score
    if cost is not None:
        row["cost_usd"][expert] = cost
    if isinstance(said := record.get(expert + RESPONSE), str):
        row["response_chars"][expert] = len(said)


def _prompt(value: Any) -> Any:
    """A prompt is stored as the text of a Python list of turns; a text of one turn is that turn."""
    if isinstance(value, list | tuple):
        return "\n".join(str(turn) for turn in value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, str) and value.startswith(("['", '["')):
        try:
            return _prompt(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            return value
    return value


def _records(path: Path, loaded: Loaded) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix != ".pkl":
        yield from records(path, loaded)
        return
    frame = _unpickle(path)
    names = [str(name) for name in frame.columns]
    for number, values in enumerate(frame.itertuples(index=False, name=None), 1):
        yield number, dict(zip(names, values, strict=True))


class _TableUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in TABLE_PARTS:
            raise ConfigError(f"a table does not hold {module_name}.{global_name}: this pickle was not opened")
        return super().find_class(module_name, global_name)


def _unpickle(path: Path) -> Any:
    try:
        pandas: Any = import_module("pandas")
    except ImportError as fault:
        raise ConfigError(
            f"{path}: RouterBench's pickles need the package pandas (pip install pandas), or convert it to Parquet"
        ) from fault
    try:
        with path.open("rb") as file:
            frame = _TableUnpickler(file).load()
    except ConfigError as fault:
        raise ConfigError(f"{path}: {fault.message}; convert it to Parquet where you trust it") from fault
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, TypeError, ValueError) as fault:
        raise ConfigError(
            f"{path}: pandas {pandas.__version__} cannot read this pickle ({fault}); convert it to Parquet with the "
            f"version of pandas that wrote it"
        ) from fault
    if not isinstance(frame, pandas.DataFrame):
        raise ConfigError(f"{path}: expected a pickled table, got {type(frame).__name__}")
    return frame
