"""Every exception that pocoflow raises.

An error names what it is about (flow, node, phase, key), the values concerned, and what to do.
Where the documented contract promises a builtin (``TypeError`` for an invalid write, ``KeyError``
for a missing checkpoint, ``RuntimeError`` for ``max_steps``), ours is also that builtin, so
``except TypeError`` keeps working and ``except PocoflowError`` catches all of them::

    PocoflowError
    ├── StoreError
    │   ├── MissingKeyError          KeyError, AttributeError
    │   │   ├── MissingInputError
    │   │   ├── NotSavedError
    │   │   └── UnreadableKeyError   UnknownClassError
    │   ├── UnknownFieldError        TypeError, AttributeError
    │   ├── InvalidValueError        TypeError, ValueError
    │   └── IncompleteStoreError     ValueError
    ├── CodecError
    │   ├── NotStorableError         TypeError
    │   └── DecodeError              ValueError
    │       └── UnknownClassError
    ├── DefinitionError              ValueError
    │   ├── FlowValidationError
    │   ├── HookError                TypeError
    │   ├── NoDatabaseError          AttributeError
    │   └── ReferenceMisuseError     TypeError, AttributeError
    ├── AnswerError                  ValueError
    │   └── AnsweredError
    ├── Retry
    ├── RunError                     RuntimeError
    │   ├── MaxStepsError
    │   ├── UnhandledActionError
    │   ├── ActionError              TypeError
    │   ├── NodeTimeoutError         TimeoutError
    │   ├── ResourceError            TypeError
    │   ├── BranchError
    │   ├── ResumeError
    │   │   ├── OtherFlowError
    │   │   └── TakenError
    │   ├── RunCancelled
    │   ├── RunPaused
    │   ├── RunFailedError
    │   ├── ThreadBusyError
    │   ├── TooManyRunsError
    │   ├── RunInterruptedError
    │   ├── DeadlineError            TimeoutError
    │   ├── BudgetError
    │   ├── QuestionExpiredError     TimeoutError
    │   ├── ExecutorError
    │   └── NoRunError
    └── DatabaseError
        ├── DatabaseBusyError        TimeoutError
        ├── DatabaseLostError        ConnectionError
        ├── DatabaseFileError        OSError
        ├── RunExistsError           ValueError
        ├── RunNotFoundError         KeyError
        ├── RunLostError
        └── CheckpointNotFoundError  KeyError
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from pocoflow.check.findings import Finding

__all__ = [
    "ActionError",
    "AnswerError",
    "AnsweredError",
    "BranchError",
    "BudgetError",
    "CheckpointNotFoundError",
    "CodecError",
    "DatabaseBusyError",
    "DatabaseError",
    "DatabaseFileError",
    "DatabaseLostError",
    "DeadlineError",
    "DecodeError",
    "DefinitionError",
    "ExecutorError",
    "FlowValidationError",
    "Gap",
    "HookError",
    "IncompleteStoreError",
    "InvalidValueError",
    "MaxStepsError",
    "MissingInputError",
    "MissingKeyError",
    "NoDatabaseError",
    "NoRunError",
    "NodeTimeoutError",
    "NotSavedError",
    "NotStorableError",
    "OtherFlowError",
    "PocoflowError",
    "QuestionExpiredError",
    "ReferenceMisuseError",
    "Remedy",
    "ResourceError",
    "ResumeError",
    "Retry",
    "RunCancelled",
    "RunError",
    "RunExistsError",
    "RunFailedError",
    "RunInterruptedError",
    "RunLostError",
    "RunNotFoundError",
    "RunPaused",
    "StoreError",
    "TakenError",
    "ThreadBusyError",
    "TooManyRunsError",
    "UnhandledActionError",
    "UnknownClassError",
    "UnknownFieldError",
    "UnreadableKeyError",
]


class Gap(StrEnum):
    """A gap in the command of a remedy, filled in by the program that prints it."""

    RUN = "RUN"
    FLOW = "FLOW"
    DB = "DB"


class Remedy(NamedTuple):
    """One way out of an error.

    Attributes:
        what: What to do, in words.
        python: The call in Python, with what is to be filled in between ``<`` and ``>``.
        command: The words of the command that does it, after ``pocoflow``; a :class:`Gap` stands
            for the run, for the location of the flow, and for the database.
    """

    what: str
    python: str = ""
    command: tuple[str, ...] = ()

    def words(self, known: Mapping[Gap, str]) -> tuple[str, ...]:
        """The words of the command, with known values in its gaps."""
        return tuple(known.get(w, w) if isinstance(w, Gap) else w for w in self.command)

    @classmethod
    def of_resuming(cls, what: str, run_id: str, arguments: str = "", *options: str) -> Remedy:
        """To resume a run: with these arguments in Python, with these options by the command."""
        python = f"flow.resume({run_id!r}{arguments and ', '}{arguments})"
        return cls(what, python, ("resume", run_id, Gap.FLOW, *options))

    @classmethod
    def of_forking(cls, run_id: str, step: int | None = None) -> Remedy:
        """To fork a run after a step, by default its last one."""
        argument, *options = ("",) if step is None else (f", step={step}", "--step", str(step))
        words = ("fork", run_id, Gap.FLOW, *options)
        return cls("fork it", f"flow.fork({run_id!r}{argument})", words)

    @classmethod
    def of_answering(cls, what: str, run_id: str, question: int) -> Remedy:
        """To answer a question of a run, with the code of its flow."""
        python = f"flow.answer_json({run_id!r}, <answer>, question={question})"
        words = ("answer", run_id, "--flow", Gap.FLOW, "--question", str(question))
        return cls(what, python, words)


class PocoflowError(Exception):
    """Base of every exception of this library.

    Its text is its first argument. ``KeyError`` would show its ``repr``, with quotes and escapes as
    of a key; our messages are sentences, so they are shown unchanged.

    Attributes:
        remedies: What can be done about it, for programs; the text tells people.
    """

    remedies: tuple[Remedy, ...] = ()

    def __init__(self, *args: object, remedies: Iterable[Remedy] = ()) -> None:
        super().__init__(*args)
        if given := tuple(remedies):
            self.remedies = given

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StoreError(PocoflowError):
    """A store does not have what was read, or does not accept what was written."""


class MissingKeyError(StoreError, KeyError, AttributeError):
    """A key is not in the store, or a field of its schema has not been set yet."""


class MissingInputError(MissingKeyError):
    """A run was started without an input: a key that a node reads before any node writes it.

    Attributes:
        keys: The keys that are missing.
    """

    def __init__(
        self, *args: object, keys: Iterable[str] = (), remedies: Iterable[Remedy] = ()
    ) -> None:
        self.keys = tuple(keys)
        super().__init__(*args, remedies=remedies)


class NotSavedError(MissingKeyError):
    """A key was in the store when the checkpoint was written, but its value could not be stored."""


class UnknownFieldError(StoreError, TypeError, AttributeError):
    """A write to a field that the store's schema does not have."""


class InvalidValueError(StoreError, TypeError, ValueError):
    """A value does not fit the type, a constraint or a validator of its field."""


class IncompleteStoreError(StoreError, ValueError):
    """Fields that the schema requires have not been set."""


class CodecError(PocoflowError):
    """A value cannot be turned into stored text, or stored text into a value."""


class NotStorableError(CodecError, TypeError):
    """A value cannot be stored so that it comes back equal.

    Attributes:
        path: The path to the offending part within the value, in Python syntax
            (``"['config'][0].client"``), or ``""`` for the value itself.
        type_name: The qualified name of the type of that part.
        reason: Why it cannot be stored.
    """

    def __init__(self, path: str, type_name: str, reason: str) -> None:
        self.path = path
        self.type_name = type_name
        self.reason = reason
        super().__init__(f"{f'at {path}: ' if path else ''}{type_name} cannot be stored: {reason}")

    def __reduce__(self) -> tuple[type[NotStorableError], tuple[str, str, str]]:
        return type(self), (self.path, self.type_name, self.reason)


class DecodeError(CodecError, ValueError):
    """Stored text is damaged, or contains something that this version cannot read."""

    def about(self, what: str) -> Self:
        """The same error, saying what it is about."""
        other = copy(self)
        other.args = (f"{what}: {self}",)
        return other


class UnknownClassError(DecodeError):
    """Stored text names a class that is not found, or has changed: ``types=`` or ``aliases=``.

    Attributes:
        class_name: The stored name of the class, ``module:qualname``.
    """

    def __init__(self, *args: object, class_name: str = "") -> None:
        self.class_name = class_name
        remedy = Remedy(
            "if the class has another name now",
            f"flow.resume(<run>, aliases={{{class_name!r}: <class>}})",
            ("resume", Gap.RUN, Gap.FLOW, "--alias", f"{class_name}=MODULE:CLASS"),
        )
        super().__init__(*args, remedies=[remedy] if class_name else [])


class UnreadableKeyError(MissingKeyError, UnknownClassError):
    """The value of a key is stored, but its class is not found, or has changed."""


class DefinitionError(PocoflowError, ValueError):
    """A node or a flow is defined in a way that cannot run."""


class FlowValidationError(DefinitionError):
    """A flow has mistakes that would make a run fail; it was stopped before its first node.

    Attributes:
        findings: The mistakes; ``flow.validate()`` returns these and the warnings.
    """

    def __init__(self, *args: object, findings: Sequence[Finding] = ()) -> None:
        self.findings = tuple(findings)
        fixes = dict.fromkeys(finding.fix for finding in self.findings if finding.fix)
        super().__init__(*args, remedies=map(Remedy, fixes))


class HookError(DefinitionError, TypeError):
    """A hook cannot take what its event passes, or the event does not exist."""


class NoDatabaseError(DefinitionError, AttributeError):
    """The database or the runs of a flow were requested, but it has no ``db_path``."""


class ReferenceMisuseError(DefinitionError, TypeError, AttributeError):
    """A reference to a field or a resource was used as if it were the value itself."""


class AnswerError(PocoflowError, ValueError):
    """An answer is refused: it does not fit its question, or there is no such open question."""


class AnsweredError(AnswerError):
    """The question is already answered; the first answer counts."""


class Retry(PocoflowError):
    """Raised by ``exec``: the result is unusable, and another attempt may succeed.

    It causes another attempt whatever ``retry_on`` says, and counts in ``max_retries``; after the
    last attempt it is raised, falls back or is caught like any other exception.

    Args:
        message: What is wrong, as the next attempt finds it in ``context().errors``.
        keep: Whether the next attempt reuses the result of the last journaled call, too.
    """

    def __init__(self, message: str = "", *, keep: bool = False) -> None:
        self.keep = keep
        super().__init__(message)


class RunError(PocoflowError, RuntimeError):
    """Something other than an exception of the user's code went wrong in a run."""


class MaxStepsError(RunError):
    """A run needed more steps than ``max_steps`` allows."""


class UnhandledActionError(RunError):
    """A node returned an action that has no edge, in a flow with ``strict=True``."""


class ActionError(RunError, TypeError):
    """``post`` returned neither a ``str`` nor ``None``, or an action that it does not declare."""


class NodeTimeoutError(RunError, TimeoutError):
    """One attempt of ``exec`` took longer than the node's ``timeout``."""


class ResourceError(RunError, TypeError):
    """A resource that a node asks for was not given to the run, or is of another type."""


class BranchError(RunError):
    """Writes of parallel branches cannot be merged: to one key, or by assigning a reducer field."""


class ResumeError(RunError):
    """A stored run cannot be resumed: it is completed, alive elsewhere, or the code has changed."""


class OtherFlowError(ResumeError):
    """A stored run belongs to another flow than the one that was called.

    Attributes:
        run_id: The run.
        flow_name: The name of its flow.
    """

    def __init__(self, *args: object, run_id: str = "", flow_name: str = "") -> None:
        self.run_id = run_id
        self.flow_name = flow_name
        arguments = f"flow_was={flow_name!r}", "--flow-was", flow_name
        renamed = Remedy.of_resuming("if the flow was renamed", run_id, *arguments)
        super().__init__(*args, remedies=[renamed] if flow_name else [])


class TakenError(ResumeError):
    """Another process is running the run, or has ended it, or the run must wait for other runs."""


class RunCancelled(RunError):
    """The run was cancelled."""


class RunPaused(RunError):
    """The run waits for answers; once they are given, ``flow.resume`` continues it.

    Attributes:
        run_id: The run.
        questions: The numbers of its open questions.
    """

    def __init__(self, *args: object, run_id: str = "", questions: Sequence[int] = ()) -> None:
        self.run_id = run_id
        self.questions = tuple(questions)
        answers = [
            Remedy.of_answering(f"answer question {number}", run_id, number)
            for number in self.questions
        ]
        super().__init__(*args, remedies=[*answers, Remedy.of_resuming("then go on", run_id)])


class RunFailedError(RunError):
    """A run of another process or thread has failed; its original exception exists only there.

    Attributes:
        run_id: The run.
        error_type: The class of the exception that ended it, with its module.
        traceback: The traceback of that exception, as text.
    """

    def __init__(
        self, message: str = "", run_id: str = "", error_type: str = "", traceback: str = ""
    ) -> None:
        self.run_id, self.error_type, self.traceback = run_id, error_type, traceback
        super().__init__(message)


class ThreadBusyError(RunError):
    """A run of a run thread is open, so no other run of the thread can start.

    Attributes:
        run_id: The open run.
        thread: The run thread.
        status: ``"queued"``, ``"running"``, ``"paused"`` or ``"interrupted"``.
    """

    def __init__(
        self,
        *args: object,
        run_id: str = "",
        thread: str = "",
        status: str = "",
        remedies: Iterable[Remedy] = (),
    ) -> None:
        self.run_id, self.thread, self.status = run_id, thread, status
        super().__init__(*args, remedies=remedies)


class TooManyRunsError(RunError):
    """The maximum number of open runs with the same value of a label is reached."""


class RunInterruptedError(RunError):
    """A run was interrupted repeatedly without finishing a step, and no worker takes it."""


class QuestionExpiredError(RunError, TimeoutError):
    """A question was not answered before its deadline, and has no default."""


class DeadlineError(RunError, TimeoutError):
    """A run took longer than the ``deadline`` of its flow."""


class BudgetError(RunError):
    """A budget is spent, and no edge catches that.

    Attributes:
        names: The names of what is spent.
        account: What the run has spent, by name.
    """

    def __init__(
        self,
        *args: object,
        names: Sequence[str] = (),
        account: Mapping[str, Decimal] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.account: Mapping[str, Decimal] = {} if account is None else account
        super().__init__(*args)


class ExecutorError(RunError):
    """An executor did not return the outcome of ``exec``, or its exception cannot be rebuilt.

    A worker was killed, for example, or lacks the module of the node. It counts as a failure of the
    attempt; ``retry_on`` decides whether there is another one.

    Attributes:
        error_type: The class of the exception that cannot be rebuilt, with its module.
    """

    def __init__(self, message: str = "", error_type: str = "") -> None:
        self.error_type = error_type
        super().__init__(message)


class NoRunError(RunError):
    """``context()`` was called outside ``prep``, ``exec`` and ``post`` of a run."""


class DatabaseError(PocoflowError):
    """The database could not execute an operation; the message names the file."""


class DatabaseBusyError(DatabaseError, TimeoutError):
    """Another writer held the database for longer than the busy timeout."""


class DatabaseLostError(DatabaseError, ConnectionError):
    """The server of a database cannot be reached, or the connection to it was lost."""


class DatabaseFileError(DatabaseError, OSError):
    """The file does not exist, cannot be written, is full, or is not a pocoflow database."""


class RunExistsError(DatabaseError, ValueError):
    """A run of that id exists already."""


class RunNotFoundError(DatabaseError, KeyError):
    """There is no run of that id in the database."""


class RunLostError(DatabaseError):
    """This process no longer owns the run: another one has resumed it, or it was removed."""


class CheckpointNotFoundError(DatabaseError, KeyError):
    """The run has no checkpoint of that step."""
