"""What windows are compared with: the reference of the version's bundle, or a window that was accepted."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import FailedPrecondition, NotFound
from slipway_runtime.identity import current_caller, require_role
from sqlalchemy import Connection

from slipway_monitoring.domain.alerts import INPUT_DRIFT, MODEL_DRIFT, Finding
from slipway_monitoring.domain.drift import INPUTS, DriftReference, DriftReport, DriftSettings
from slipway_monitoring.domain.names import check_text, drift_report_of
from slipway_monitoring.domain.profiles import Profile
from slipway_monitoring.engine.reference import ProfileError, Reference
from slipway_monitoring.engine.traffic import reference_of
from slipway_monitoring.store.drift import DriftStore
from slipway_monitoring.store.monitors import MonitorStore
from slipway_monitoring.store.predictions import PredictionStore
from slipway_monitoring.store.references import ReferenceStore
from slipway_monitoring.usecases.alerts import settle
from slipway_monitoring.usecases.monitors import WRITERS

_KEPT = 50  # references in memory
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Compared:
    """What a version's windows are compared with.

    Attributes:
        version: `models/{model}/versions/{number}`.
        classes: Names of its classes, by index.
        reference: None when there is none.
        trouble: Why there is none.
        accepted: Number of the report whose window it is; 0: it is the bundle's.
    """

    version: str
    classes: Sequence[str]
    reference: Reference | None
    trouble: str = ""
    accepted: int = 0


class References:
    """Reads references, and remembers the last ones; of one thread.

    Args:
        profile: Returns what a version's bundle says of it; raises NotFound, FailedPrecondition, Unavailable.
    """

    def __init__(self, *, profile: Callable[[str], Profile]) -> None:
        self._profile = profile
        self._bundles: OrderedDict[str, Compared] = OrderedDict()
        self._accepted: OrderedDict[tuple[str, str, int], Reference] = OrderedDict()

    def of_bundle(self, version: str) -> Compared:
        """Return the reference of a version's bundle, or why there is none.

        Raises:
            Unavailable: The registry cannot be reached.
        """
        known = self._bundles.get(version) or read_bundle(self._profile, version)
        if known.reference is not None:  # one without may get one: a damaged bundle is uploaded again
            _keep(self._bundles, version, known)
        return known

    def in_force(self, connection: Connection, endpoint: str, bundle: Compared) -> Compared:
        """Return what a version's windows at an endpoint are compared with now.

        Whoever accepts another one meanwhile, in whatever process, waits for the version's open window: hold
        its lock.
        """
        store = ReferenceStore(connection)
        newest = store.in_force(endpoint, bundle.version)
        if newest is None:
            return bundle
        serial, number = newest
        key = (endpoint, bundle.version, serial)
        known = self._accepted.get(key)
        if known is None:
            known = Reference.from_profile(store.profile(serial))
            _keep(self._accepted, key, known)
        return replace(bundle, reference=known, trouble="", accepted=number)


def _keep(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    while len(known) > _KEPT:
        known.popitem(last=False)


def read_bundle(profile: Callable[[str], Profile], version: str) -> Compared:
    """Return the reference of a version's bundle, or why there is none.

    Raises:
        Unavailable: The registry cannot be reached.
    """
    try:
        found = profile(version)
    except (NotFound, FailedPrecondition) as error:
        return Compared(version, (), None, str(error))
    try:
        return Compared(version, found.classes, Reference.from_profile(found.reference))
    except ProfileError as error:
        return Compared(version, found.classes, None, str(error))


class Acceptance:
    """Makes what an endpoint sees now the reference of a version.

    Args:
        database: The service's own.
        profile: Returns what a version's bundle says of it; raises NotFound, FailedPrecondition, Unavailable.
    """

    def __init__(self, *, database: Database, profile: Callable[[str], Profile]) -> None:
        self._database = database
        self._profile = profile

    def accept(self, name: str, reason: str, repeat: Repeat) -> DriftReference:
        """Make a report's window the reference of its version at the endpoint, from the next window on.

        In the same transaction the version's streaks begin anew and its drift alerts are resolved.

        Raises:
            PermissionDenied: The caller is neither admin, engineer nor a service.
            InvalidArgument: There is no reason.
            NotFound: There is no such report (DRIFT_REPORT_NOT_FOUND).
            FailedPrecondition: Rows or captured inputs of it are forgotten (WINDOW_FORGOTTEN), or it has
                fewer rows than `min_rows` (WINDOW_TOO_SMALL).
            Unavailable: The registry, which knows the classes, cannot be reached.
        """
        require_role(current_caller(), WRITERS)
        check_text("reason", reason, needed=True)
        with self._database.transaction() as connection:
            report = existing_report(connection, name)
        classes = read_bundle(self._profile, report.model_version).classes
        with self._database.transaction() as connection:
            return repeat.once(
                connection, DriftReference, lambda: _accepted(connection, report, classes, reason)
            )


def existing_report(connection: Connection, name: str) -> DriftReport:
    """Return the drift report of a name.

    Raises:
        NotFound: There is none (DRIFT_REPORT_NOT_FOUND).
    """
    endpoint, number = drift_report_of(name)
    found = DriftStore(connection).report(endpoint, number)
    if found is None:
        message = f"there is no drift report {name!r}; list those of monitors/{endpoint}"
        raise NotFound("DRIFT_REPORT_NOT_FOUND", message, metadata={"name": name})
    return found


def _accepted(
    connection: Connection, report: DriftReport, classes: Sequence[str], reason: str
) -> DriftReference:
    monitor = MonitorStore(connection).get(report.endpoint)
    _check_size(report, monitor.spec.drift if monitor is not None else DriftSettings())
    DriftStore(connection).forget_streaks(report.endpoint, report.model_version)
    reference = _reference(connection, report, classes)
    caller = current_caller().subject
    made = ReferenceStore(connection).add(report, reference.to_profile(), reason, caller)
    for rule in (INPUT_DRIFT, MODEL_DRIFT):
        settle(connection, Finding(report.endpoint, rule, holds=False, model_version=report.model_version))
    return made


def _check_size(report: DriftReport, settings: DriftSettings) -> None:
    if report.row_count < settings.min_rows:
        message = (
            f"the window of {report.name} has {report.row_count} rows; a reference needs "
            f"{settings.min_rows}: accept a report with more, or lower min_rows of the monitor"
        )
        metadata = {"name": report.name, "min_rows": str(settings.min_rows)}
        raise FailedPrecondition("WINDOW_TOO_SMALL", message, metadata=metadata)


def _reference(connection: Connection, report: DriftReport, classes: Sequence[str]) -> Reference:
    """Return the reference that the window of a report makes; all that was compared in it is there still."""
    rows = PredictionStore(connection).window(
        f"endpoints/{report.endpoint}", report.model_version, report.after_arrival, report.row_count
    )
    if len(rows) < report.row_count or rows.last_arrival != report.last_arrival:
        raise _forgotten(report, "rows")
    made = reference_of(rows, classes)
    for test in report.comparison.tests:
        if test.subject.startswith(INPUTS):
            histogram = made.histograms.get(test.subject)
            if histogram is None or histogram.total != test.row_count:
                raise _forgotten(report, "captured inputs")
    return made


def _forgotten(report: DriftReport, what: str) -> FailedPrecondition:
    message = f"{what} of the window of {report.name} are forgotten; accept a newer report"
    return FailedPrecondition("WINDOW_FORGOTTEN", message, metadata={"name": report.name})
