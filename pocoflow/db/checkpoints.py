"""The part of ``WorkflowDB`` that deals with checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, overload

from pocoflow import values as codec
from pocoflow.address import check_id
from pocoflow.db.file import RunsFile
from pocoflow.db.log import ENDS_STEP, Kind, append_foreign
from pocoflow.db.port import Record, Transaction
from pocoflow.db.rows import check_given, is_graph, is_object, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.values import Stored, ValueWriter, key_of, read_values, store_text
from pocoflow.errors import CheckpointNotFoundError, DecodeError, DefinitionError
from pocoflow.messages import short
from pocoflow.store.schema.vouching import classes_of
from pocoflow.store.store import ModelT, Store
from pocoflow.values.failures import escaped


class CheckpointRow(Mapping[str, Any]):
    """A row of ``pf_checkpoints``; ``store_json`` is assembled only when it is read."""

    __slots__ = ("_database", "_row")

    _KEYS = ("id", "run_id", "step", "node_name", "store_json", "created_at")

    def __init__(self, database: Checkpoints, row: dict[str, Any]) -> None:
        self._database = database
        self._row = row

    @overload
    def __getitem__(self, key: Literal["id", "step"]) -> int: ...

    @overload
    def __getitem__(
        self, key: Literal["run_id", "node_name", "store_json", "created_at"]
    ) -> str: ...

    @overload
    def __getitem__(self, key: str) -> Any: ...

    def __getitem__(self, key: str) -> Any:
        if key == "store_json" and key not in self._row:
            self._row[key] = self._database.store_json(self._row["run_id"], self._row["step"])
        return self._row[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._KEYS)

    def __len__(self) -> int:
        return len(self._KEYS)

    def __repr__(self) -> str:
        return f"<checkpoint {self['step']} of run {self['run_id']!r} after {self['node_name']!r}>"


def _check_step(step: object) -> None:
    if type(step) is not int:
        raise DefinitionError(f"step= is the number of a step, such as 2, not {short(step)}")


class Checkpoints(RunsFile):
    """Stores as they were after each step."""

    def save_checkpoint(
        self, run_id: str, step: int, node_name: str, store: Mapping[str, object]
    ) -> None:
        """Store a checkpoint of a step; an existing checkpoint of that step is replaced.

        A step that the run itself has finished keeps its node and its time.

        Raises:
            RunNotFoundError: There is no such run.
            DefinitionError: ``step`` is not a number, or the flow of the run may still reach it;
                or ``node_name`` is not a text.
        """
        _check_step(step)
        check_given("save_checkpoint", step=step, node_name=node_name)
        run_no = self.number(run_id)
        values = store if isinstance(store, Store) else Store(store)
        first, end = row_ids(run_no)
        with self.writing(run_no) as raw:
            next_no = raw.execute(QUERIES["next_step"], (first, end, step)).fetchone()[0]
            next_store = None if next_no is None else self._untyped(run_no, next_no)
            self._forget(raw, run_no, step)
            writer = ValueWriter(f"run {run_id!r}")
            writer.load(raw, run_no, self._untyped(run_no, step), step)
            raw.execute(QUERIES["delete_step"], (first, end, step))
            if raw.execute(QUERIES["find_step"], (first, end, step)).fetchone() is None:
                self._refuse_unfinished(raw, run_id, step)
                facts = {"node": escaped(node_name), "at": self.connection.micros()}
                append_foreign(raw, run_no, Kind.CHECKPOINT, step, **facts)
            changes = writer.changes(values)
            writer.write(raw, run_no, step, changes)
            if next_store is not None:
                # The next step is stored as its changes to this one, so they differ now.
                writer.accept(changes)
                self._forget(raw, run_no, next_no)
                writer.write(raw, run_no, next_no, writer.changes(next_store))

    def _refuse_unfinished(self, raw: Transaction, run_id: str, step: int) -> None:
        run_no = self.number(run_id)
        first, end = row_ids(run_no)
        started = raw.execute(QUERIES["line_start"], (first, end - 1)).fetchone()
        status = raw.execute(QUERIES["run_status"], (run_no,)).fetchone()[0]
        if started is not None and status != "completed":
            raise DefinitionError(
                f"save_checkpoint(step={step}): run {run_id!r} is {status}, and has not finished "
                "that step; its flow writes the checkpoint as it does"
            )

    def _forget(self, raw: Transaction, run_no: int, step: int) -> None:
        for query in ("delete_blobs", "delete_values"):
            raw.execute(QUERIES[query], {"run_no": run_no, "step": step})

    def get_checkpoints(self, run_id: str) -> list[CheckpointRow]:
        """The checkpoints of a run by step; no store is assembled.

        Each row is a mapping with the columns of ``pf_checkpoints``; ``row["store_json"]`` is
        assembled when it is read. The store before the first node is not listed; it is ``step=-1``
        of :meth:`load_checkpoint`.

        Raises:
            RunNotFoundError: There is no such run.
        """
        run_no = self.number(run_id)
        return [
            CheckpointRow(
                self,
                {
                    "id": (run_no << 32) + step,
                    "run_id": run_id,
                    "step": step,
                    "node_name": node or "",
                    "created_at": at,
                },
            )
            for step, node, at in self.connection.rows(QUERIES["steps_of_run"], row_ids(run_no))
        ]

    def row_of_step(self, run_no: int, step: int) -> int | None:
        """The id of the log row that records a step, or ``None``.

        Found by binary search, without an index: each row says how many steps precede it. In a run
        without items, retries and the like, the first guess is right.
        """
        first, end = row_ids(run_no)
        low, high, guess = first, end, first + 1 + step
        while low < high:
            row = self.connection.row(QUERIES["step_row"], (guess, end))
            if row is not None and row["step"] == step and row["kind"] in ENDS_STEP:
                return int(row["id"])
            if row is None or row["steps"] > step:
                high = guess
            else:
                low = row["id"] + 1
            guess = (low + high) // 2 if high < end or low > first + step + 64 else low
        row = self.connection.row(QUERIES["find_step"], (first, end, step))
        return None if row is None else int(row[0])

    def store_json(self, run_id: str, step: int) -> str:
        """The store after a step as JSON text: plain JSON for plain values.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint of that step.
            DecodeError: A value is damaged.
        """
        run_no = self.number(run_id)
        rows = self._values_at(run_no, step)
        if step < 0 or self.row_of_step(run_no, step) is None:
            raise self.no_checkpoint(run_id, step)
        try:
            text = store_text(rows)
            read_json(text, is_object, f"the store of run {run_id!r}")  # whatever wrote the file
        except DecodeError as exc:
            raise exc.about(self._about(step)) from exc
        return text

    def load_checkpoint(
        self,
        run_id: str,
        step: int,
        *,
        schema: type[ModelT] | Mapping[str, object] | None = None,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
    ) -> Store[ModelT]:
        """The store as it was after a step; ``step=-1`` is the store before the first node.

        Args:
            run_id: The run.
            step: The step, from 0.
            schema: A schema that validates the values and vouches for their classes.
            types: More classes that stored values may be instances of.
            aliases: Classes that were renamed, by their recorded names:
                ``{"old_module:Name": Name}``.

        Raises:
            RunNotFoundError: There is no such run.
            CheckpointNotFoundError: The run has no checkpoint of that step.
            DecodeError: A value is damaged. A value of a class that is not known raises
                ``UnreadableKeyError`` when its key is read.
            InvalidValueError: A value does not fit the schema.
            DefinitionError: ``step`` is not a number.
        """
        _check_step(step)
        return self.load_store(run_id, step, classes_of(schema, types, aliases), schema=schema)

    def load_store(
        self,
        run_id: str,
        step: int,
        classes: codec.Classes,
        pending: Iterable[Stored] = (),
        *,
        schema: object = None,
    ) -> Store:
        """The store as it was after a step.

        Args:
            run_id: The run.
            step: The step.
            classes: The classes that its values may be of.
            pending: Later changes, not committed as a step yet: rows of key, operation and text.
            schema: A schema that validates the values.

        Raises:
            RunNotFoundError: There is no such run.
            CheckpointNotFoundError: The run has no checkpoint of that step.
            DecodeError: A value is damaged.
            InvalidValueError: A value does not fit the schema.
        """
        run_no = self.number(run_id)
        row = self.connection.row(QUERIES["run_by_id"], (run_id,))
        name = str(key_of(row["store_name"])) if row else ""
        old_schema = (self.get_graph(run_id) or {}).get("schema")
        rows = self._values_at(run_no, step)
        # Checked last: if the run was removed meanwhile, what was read may be incomplete.
        if self.row_of_step(run_no, step) is None:
            raise self.no_checkpoint(run_id, step)
        read = read_values([*rows, *pending], self._about(step), classes)
        return Store.rebuild(read.values, read.unsaved, name, schema, old_schema)

    def _values_at(self, run_no: int, step: int) -> list[Record]:
        return self.connection.rows(QUERIES["values_at"], {"run_no": run_no, "step": step})

    def _about(self, step: int) -> str:
        return f"database {self.path}, step {step}"

    def _untyped(self, run_no: int, step: int) -> Store:
        rows = self._values_at(run_no, step)
        read = read_values(rows, self._about(step), codec.Classes())
        return Store.rebuild(read.values, read.unsaved)

    def get_graph(self, run_id: str) -> dict[str, Any] | None:
        """What the run's flow looked like when it was last started or resumed, or ``None``.

        A dict with ``start``, ``nodes`` (for each its ``path``, a list of the names of the
        enclosing flows and its own, its class and a digest of its code), ``edges`` (lists of
        source, action and target; source and target are such paths, a target of ``None`` is the
        end) and ``schema`` (field to its definition).
        """
        check_id(run_id)
        row = self.connection.row(QUERIES["graph_of_run"], (run_id,))
        if row is None:
            return None
        return dict(read_json(row[0], is_graph, f"the graph of run {run_id!r}"))

    def no_checkpoint(self, run_id: str, step: int) -> CheckpointNotFoundError:
        """The error for a step without a checkpoint; it says which steps have one."""
        steps = [row["step"] for row in self.get_checkpoints(run_id)]
        known = f"it has steps {steps[0]} to {steps[-1]}" if steps else "it has none yet"
        return CheckpointNotFoundError(f"run {run_id!r} has no checkpoint of step {step}: {known}")
