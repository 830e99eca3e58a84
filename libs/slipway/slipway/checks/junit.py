"""A report as JUnit XML, which CI systems show test by test."""

import re
from pathlib import Path
from xml.etree import ElementTree

from slipway.checks.report import Report
from slipway.client.errors import SlipwayError

# What XML 1.0 has no place for, even escaped (section 2.2 of the recommendation).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(report: Report, path: Path) -> None:
    """Write a test's checks as one test suite.

    Raises:
        SlipwayError: The file cannot be written.
    """
    suite = ElementTree.Element(
        "testsuite",
        name=f"slipway.{report.test}",
        tests=str(len(report.checks)),
        failures=str(len(report.failures)),
        errors="0",
        skipped=str(sum(check.outcome == "skipped" for check in report.checks)),
        time=f"{report.seconds:.3f}",
    )
    for check in report.checks:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_clean(f"{report.test}.{report.subject}"),
            name=_clean(check.name),
            time=f"{check.seconds:.3f}",
        )
        if check.outcome != "passed":
            kind = "failure" if check.outcome == "failed" else "skipped"
            found = ElementTree.SubElement(case, kind, message=_clean(check.message))
            found.text = _clean(f"value: {check.value}\nbound: {check.bound}")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        text = f"{path} cannot be written ({error.strerror or error}); name another file with --junit"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text) from error


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


__all__ = ["write_junit"]
