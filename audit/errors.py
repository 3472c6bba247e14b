"""Every error that Palimpsest raises on purpose.

AuditError                      a message for the user; the command line prints it without a traceback
├── InputError                  an argument, flag or plan is wrong                       exit code 2
├── DataError                   a file's content is wrong (path and line are named)      exit code 2
├── ModelError                  a checkpoint cannot be loaded or used safely             exit code 2
├── MissingDependencyError      an extra is not installed (the pip line is given)        exit code 2
├── StorageError                disk full, folder unwritable; finished work stays        exit code 2
├── IncompleteRunError          a run was read that has not ended                        exit code 3
└── InstrumentError             the instrument failed its own known-answer test          exit code 5

Anything else that escapes is our bug and keeps its traceback (exit code 3).

A message says what was wrong, where, what was expected and how to mend it, values included:
"prompt 17 has 2,113 tokens; the model accepts at most 2,048. Shorten it or pass --truncate."
"""


class AuditError(Exception):
    """Base of every error that is raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 2


class InputError(AuditError):
    """An argument, flag or plan is wrong."""


class DataError(AuditError):
    """A file's content is wrong."""


class ModelError(AuditError):
    """A checkpoint cannot be loaded or used safely."""


class MissingDependencyError(AuditError):
    """An optional dependency is not installed."""


class StorageError(AuditError):
    """The disk is full or a folder cannot be written; what was finished stays."""


class IncompleteRunError(AuditError):
    """A run that was read has not ended, or work was interrupted."""

    exit_code = 3


class InstrumentError(AuditError):
    """The instrument failed its own known-answer test."""

    exit_code = 5
