"""Long rows of trainings, one line of JSON each: what is there is not run again, so a stopped row goes on.

Hours of training are gone with the folder they were made in, so the files of figures lie beside the pages made of them
(docs/bench/*.jsonl): each line says when and on what machine it was made.
"""

import json
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge.engine.machine import this_machine
from training.run import RunRecord

Row = dict[str, Any]


def run_missing(
    results: Path,
    wanted: Iterable[tuple[Path, str, int]],
    label: str,
    run: Callable[[Path, str, int, list[Row]], list[Row]],
    size: int | None = None,
) -> list[Row]:
    """Runs what is wanted and not yet in the file, and adds it there.

    Args:
        results: a line a row; made when missing.
        wanted: (data set, what to train, seed), in order: what is there after any time should be a whole comparison.
        label: the rows' key for what was trained; "data" and "seed" are the others.
        run: makes the rows of one, given those there are; "date" and "machine" are added to them.
        size: side of the pictures, where a file holds several: the rows' key "size".

    Returns:
        All rows of the file, old and new.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    known = {(row["data"], row[label], row["seed"]) for row in rows if size is None or row["size"] == size}
    made_on = {"date": f"{datetime.now(timezone.utc):%Y-%m-%d}", "machine": str(this_machine())}
    missing = [one for one in wanted if (one[0].name, *one[1:]) not in known]
    for number, (data, what, seed) in enumerate(missing, start=1):
        print(f"{number} of {len(missing)}: {data.name}, {what}, seed {seed}", file=sys.stderr, flush=True)
        made = [{**_rounded(row), **made_on} for row in run(data, what, seed, rows)]
        rows += made
        with results.open("a") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in made)
    return rows


def origin_of(record: RunRecord) -> Row:
    """What a training's figures hang on beside machine and day: versions, data, teacher and photographs."""
    return {
        "torch": record.packages["torch"], "commit": record.commit[:12], "data_sha256": record.data_sha256[:12],
        "teacher_sha256": record.teacher_sha256[:12], "natural": record.natural,
    }  # fmt: skip


def _rounded(row: Row) -> Row:
    """Numbers as far as pictures by the hundred carry them."""
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}


def made_when(rows: Iterable[Row]) -> str:
    """Days and machines of rows, for the head of their table."""
    days = sorted({row["date"] for row in rows})
    machines = sorted({row["machine"] for row in rows})
    return f"{days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}, {'; '.join(machines)}"
