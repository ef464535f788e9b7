"""Errors of the training side; all are `edge.errors.OnbeltError`, so the command line reports them in one line.

TrainingError
├── BackboneError      a backbone is unknown or its package is missing (the engineer who trains)
├── TeacherFileError   a teacher file is missing, damaged or of another kind (the engineer who trains)
├── RecipeError        a recipe asks for what cannot be done, or the data do not suffice for it (the engineer who trains)
└── RunError           a run folder is missing, damaged or does not fit what was asked (the engineer who trains)
"""

from edge.errors import OnbeltError


class TrainingError(OnbeltError):
    """Root of what the training side raises on purpose."""


class BackboneError(TrainingError):
    """A backbone is unknown or its package is missing."""


class TeacherFileError(TrainingError):
    """A teacher file is missing, damaged or of another kind."""


class RecipeError(TrainingError):
    """A recipe asks for what cannot be done."""


class RunError(TrainingError):
    """A run folder is missing, damaged or does not fit what was asked."""
