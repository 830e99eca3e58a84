"""Tests of a trained model, as a user's CI runs them: functionality, validation, training system.

>>> from slipway.checks import functionality
>>> report = functionality(client, "models/flowers/versions/latest", budget_s=300)
>>> assert report.passed, report.failures
"""

from slipway.checks.cases import Cases, read_cases
from slipway.checks.functionality import functionality
from slipway.checks.junit import write_junit
from slipway.checks.report import Check, Report
from slipway.checks.training_system import training_system
from slipway.checks.validation import validation

__all__ = [
    "Cases",
    "Check",
    "Report",
    "functionality",
    "read_cases",
    "training_system",
    "validation",
    "write_junit",
]
