"""All checks of one overlay."""

from collections.abc import Callable, Iterator
from pathlib import Path

from . import building, doors, identity, mesh, rights, schema, services, stores, variables, workloads
from .objects import Finding, Manifest, Objects, endpoint_objects, render

OVERLAYS = ("dev", "prod")


def findings(
    root: Path, overlay: str, change: Callable[[list[Manifest]], None] | None = None
) -> Iterator[Finding]:
    """Yield what is wrong with an overlay.

    Args:
        root: Of the repository, or of a copy of its cluster files.
        overlay: Name of its folder.
        change: Changes the objects before they are checked; for seeded faults in what rollout writes.
    """
    objects = Objects([*render(root, overlay).all, *endpoint_objects()])
    if change is not None:
        change(objects.all)
    for part in (schema, workloads, stores, services, mesh, doors, variables, identity, rights):
        yield from part.check(objects)
    if overlay == "dev":
        yield from workloads.check_secrets(objects)
        yield from stores.check_databases(objects)
        yield from building.check_synced(root, objects)
    else:
        yield from workloads.check_read_only(objects)
    yield from building.check(root, objects)
