"""Resource names and the checks that all parts share."""

import re
from collections.abc import Sequence

from slipway_runtime.errors import InvalidArgument

MAX_TEXT = 4_000
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]{1,18}")
_DATASET = re.compile(r"datasets/[a-z0-9-]{1,63}")
_COMMIT = re.compile(r"datasets/[a-z0-9-]{1,63}/commits/[0-9a-f]{64}")


def check_id(field_name: str, value: str) -> str:
    """Return the id, checked.

    Raises:
        InvalidArgument: It is no lower-case name of at most 63 characters.
    """
    if not _ID.fullmatch(value):
        rule = "use a-z, 0-9 and hyphens, 1 to 63 of them, no hyphen at the ends"
        raise InvalidArgument.field(field_name, f"is {value!r}; {rule}")
    return value


def check_text(field_name: str, value: str, *, needed: bool = False) -> str:
    """Return the text, checked for length."""
    if len(value) > MAX_TEXT or "\0" in value:
        raise InvalidArgument.field(field_name, f"has {len(value)} characters; at most {MAX_TEXT}, no NUL")
    if needed and not value.strip():
        raise InvalidArgument.field(field_name, "is empty; say it in a few words")
    return value


def check_dataset(field_name: str, value: str) -> str:
    """Return the resource name of a data set, checked."""
    if not _DATASET.fullmatch(value):
        raise InvalidArgument.field(field_name, f"is {value!r}; write datasets/{{dataset}}")
    return value


def check_commit(field_name: str, value: str) -> str:
    """Return the resource name of a commit, checked."""
    if not _COMMIT.fullmatch(value):
        raise InvalidArgument.field(
            field_name, f"is {value!r}; write datasets/{{dataset}}/commits/{{digest}}"
        )
    return value


def name_part(name: str, *collections: str, field_name: str = "name") -> tuple[str, ...]:
    """Return the ids of a resource name such as `labelingProjects/{id}/tasks/{id}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    parts = name.split("/")
    wanted = "/".join(f"{collection}/{{{_singular(collection)}}}" for collection in collections)
    shaped = len(parts) == 2 * len(collections) and tuple(parts[::2]) == collections
    if not shaped or not all(parts[1::2]) or "\0" in name:
        raise InvalidArgument.field(field_name, f"is {name!r}; write {wanted}")
    return tuple(parts[1::2])


def number_of(text: str) -> int:
    """Return the number that an id is, or -1, which nothing has."""
    return int(text) if _NUMBER.fullmatch(text) else -1


def project_of(name: str, field_name: str = "parent") -> str:
    """Return the id in `labelingProjects/{project}`."""
    return name_part(name, "labelingProjects", field_name=field_name)[0]


def task_of(name: str, field_name: str = "name") -> tuple[str, int]:
    """Return project and serial of `labelingProjects/{project}/tasks/{task}`."""
    project, task = name_part(name, "labelingProjects", "tasks", field_name=field_name)
    return project, number_of(task)


def assignment_of(name: str, field_name: str = "name") -> tuple[str, int, int]:
    """Return project, task and number of an assignment's name."""
    collections = ("labelingProjects", "tasks", "assignments")
    project, task, number = name_part(name, *collections, field_name=field_name)
    return project, number_of(task), number_of(number)


def annotation_of(name: str, field_name: str = "name") -> int:
    """Return the number in `annotations/{annotation}`."""
    return number_of(name_part(name, "annotations", field_name=field_name)[0])


def joined(names: Sequence[str], limit: int = 10) -> str:
    """Return the first names for a message, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def _singular(collection: str) -> str:
    return {"labelingProjects": "project", "assignments": "number"}.get(
        collection, collection.removesuffix("s")
    )
