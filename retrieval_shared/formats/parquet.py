"""Parquet, in batches of rows; nested values are JSON in columns marked so, and come back nested."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from retrieval_shared.errors import RecordError
from retrieval_shared.formats.lines import Found

_BATCH_ROWS = 1_024
_JSON_MARK = {b"wardline": b"json"}


def read_parquet(path: Path) -> Iterator[Found]:
    """Yield the record, or what is wrong, of each row.

    Raises:
        RecordError: it is no Parquet file, two columns have the same name, or the file is damaged.
    """
    import pyarrow  # late: it is slow to load, and most files are not Parquet
    from pyarrow import parquet

    line = 0
    try:
        with parquet.ParquetFile(path) as file:
            fields = list(file.schema_arrow)
            if len({field.name for field in fields}) < len(fields):
                raise RecordError(f"{path.name}: two columns have the same name")
            nested = {field.name for field in fields if _JSON_MARK.items() <= (field.metadata or {}).items()}
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for values in _rows(batch):
                    line += 1
                    yield _found(values, line, nested)
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordError(f"{path.name}: damaged after row {line}: {error}") from error


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], *, columns: Mapping[str, type]) -> int:
    """Write rows of JSON values, and return how many; `columns` maps a name to str, int, float, bool or object.

    Raises:
        ValueError: a value does not fit its column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), object: pa.string()}
    schema = pa.schema(
        [pa.field(name, types[kind], metadata=_JSON_MARK if kind is object else None) for name, kind in columns.items()]
    )
    count = 0
    waiting = iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(waiting, _BATCH_ROWS)):
            arrays = [_column(pa, batch, name, kind) for name, kind in columns.items()]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(batch)
    return count


def _column(pa: Any, rows: list[Mapping[str, Any]], name: str, kind: type) -> Any:  # noqa: ANN401 - pyarrow is loaded late
    types = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    values = [row.get(name) for row in rows]
    if kind is object:
        values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    try:
        return pa.array(values, type=types.get(kind, pa.string()))
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"column {name!r} is {kind.__name__}, and a value is not: {error}") from error


def _rows(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:  # noqa: ANN401 - pyarrow is loaded late
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield error


def _found(values: dict[str, Any] | UnicodeDecodeError, line: int, nested: set[str]) -> Found:
    if isinstance(values, UnicodeDecodeError):
        return Found(line, ValueError("not valid UTF-8"))
    try:
        return Found(line, {k: json.loads(v) if k in nested and v is not None else v for k, v in values.items()})
    except ValueError as error:
        return Found(line, ValueError(f"a nested value is no JSON: {error}"), str(values).encode("utf-8", "replace"))
