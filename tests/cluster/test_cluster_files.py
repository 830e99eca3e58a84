"""The cluster files are right, and slips in them are caught by name."""

from functools import lru_cache
from pathlib import Path

import pytest
from checks.everything import OVERLAYS, findings
from faults import FAULTS, Fault
from platform_faults import PLATFORM_FAULTS

ROOT = Path(__file__).resolve().parents[2]


@lru_cache
def _standing(overlay: str) -> tuple[str, ...]:
    return tuple(str(finding) for finding in findings(ROOT, overlay))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_wrong_with_the_cluster_files(overlay: str) -> None:
    found = _standing(overlay)

    assert not found, "\n".join(found)


@pytest.mark.parametrize("fault", [*FAULTS, *PLATFORM_FAULTS], ids=lambda fault: fault.id)
def test_a_slip_is_caught_by_name(fault: Fault, copy: Path) -> None:
    fault.plant(copy)

    found = {str(finding) for finding in findings(copy, fault.overlay, fault.change)}

    fresh = found - set(_standing(fault.overlay))
    named = [text for text in fresh if text.startswith(fault.place) and fault.field in text]
    assert named, f"nothing names {fault.place} and {fault.field}; found: {sorted(fresh)}"


def test_every_kind_of_object_that_rollout_writes_is_checked_too() -> None:
    kinds: set[str] = set()

    list(findings(ROOT, "dev", lambda objects: kinds.update(o["kind"] for o in objects)))

    assert {"Deployment", "Service", "VirtualService", "DestinationRule"} <= kinds
