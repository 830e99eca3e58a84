"""Models and their immutable versions."""

import re
from collections.abc import Sequence

from slipway_runtime.db import Database, PageToken, once, page_of, page_size
from slipway_runtime.errors import Aborted, AlreadyExists, InvalidArgument, NotFound
from slipway_runtime.identity import current_caller

from slipway_registry.domain import (
    Model,
    Version,
    VersionState,
    check_digest,
    check_id,
    check_text,
    name_part,
)
from slipway_registry.store import Store
from slipway_registry.usecases.runs import Repeat, run_for_version

_KNOWN = 1000
_NUMBER = re.compile(r"[0-9]{1,9}")


class Models:
    """The verbs over models and versions."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def create(self, id: str, description: str, repeat: Repeat) -> Model:
        """Create a model.

        Raises:
            AlreadyExists: The id is taken.
        """
        check_id("model_id", id)
        check_text("model.description", description)
        with self._database.transaction() as connection:

            def effect() -> Model:
                made = Store(connection).add_model(id, description, current_caller().subject)
                if made is None:
                    raise AlreadyExists("ALREADY_EXISTS", f"models/{id} is there already; use it")
                return made

            return once(
                connection,
                request_id=repeat.request_id,
                method="CreateModel",
                request=repeat.request,
                answer=Model,
                effect=effect,
            )

    def get(self, name: str) -> Model:
        """Return one model."""
        (id,) = name_part(name, "models")
        with self._database.transaction() as connection:
            return model_named(Store(connection), id)

    def list(self, size: int, token: str) -> tuple[Sequence[Model], str]:
        """Return a page of models."""
        limit, tokens = page_size(size), PageToken(("models",))
        after = tokens.decode(token) or [""]
        with self._database.transaction() as connection:
            rows = Store(connection).models(str(after[0]), limit + 1)
        return rows[:limit], tokens.encode(rows[limit - 1].id) if len(rows) > limit else ""

    def update(self, name: str, etag: str, description: str, paths: Sequence[str]) -> Model:
        """Change the description.

        Raises:
            Aborted: The etag is stale.
        """
        (id,) = name_part(name, "models", field_name="model.name")
        unknown = [path for path in paths if path != "description"]
        if unknown or not paths:
            raise InvalidArgument.field(
                "update_mask", f"names {unknown or 'nothing'}; only 'description' changes"
            )
        check_text("model.description", description)
        with self._database.transaction() as connection:
            store = Store(connection)
            current = model_named(store, id, lock=True)
            if etag != current.etag:
                message = f"{name} was changed since it was read; get it again and repeat the change"
                raise Aborted("ETAG_MISMATCH", message, metadata={"etag": current.etag})
            return store.update_model(id, description)

    def create_version(self, parent: str, run: str, bundle: str, attempt: int, repeat: Repeat) -> Version:
        """Make the next version from a run and its bundle; the same run again gives the version it made.

        Raises:
            NotFound: There is no such model, run or bundle.
            FailedPrecondition: The run names no commit, failed, or a later attempt writes it.
        """
        (id,) = name_part(parent, "models", field_name="parent")
        digest = check_digest(bundle, "model_version.bundle")
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Version:
                model = model_named(store, id, lock=True)
                source = run_for_version(store, run, attempt)
                made = store.version_of_run(id, run)
                if made is not None:
                    return made
                kept = store.bundle(digest)
                if kept is None:
                    raise NotFound.of("BUNDLE_NOT_FOUND", "bundle", bundle)
                return store.add_version(model, source, kept, current_caller().subject)

            return once(
                connection,
                request_id=repeat.request_id,
                method="CreateModelVersion",
                request=repeat.request,
                answer=Version,
                effect=effect,
            )

    def get_version(self, name: str) -> Version:
        """Return one version; `latest` stands for the newest."""
        with self._database.transaction() as connection:
            return version_named(Store(connection), name)

    def list_versions(
        self, parent: str, size: int, token: str, states: Sequence[VersionState] = ()
    ) -> tuple[Sequence[Version], str]:
        """Return a page of versions, newest first; of these states alone, when there are any."""
        (id,) = name_part(parent, "models", field_name="parent")
        listing = ("versions", parent, *sorted(set(states)))
        limit, tokens = page_size(size), PageToken(listing, (int,))
        before = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            model_named(store, id)
            rows = store.versions(id, int(before[0]) if before else None, limit + 1, states)
        page = page_of(rows, limit)
        return page, tokens.encode(page[-1].number) if len(rows) > len(page) else ""


def version_named(store: Store, name: str, field_name: str = "name", *, lock: bool = False) -> Version:
    """Return the version of a resource name, its model locked when asked; `latest` stands for the newest.

    Raises:
        NotFound: There is no such model, or it has no such version; those there are, are named.
    """
    id, number = name_part(name, "models", "versions", field_name=field_name)
    model = model_named(store, id, lock=lock)
    wanted = str(model.latest_version) if number == "latest" else number
    found = store.version(id, int(wanted)) if _NUMBER.fullmatch(wanted) else None
    if found is None:
        raise _no_version(store, model, number)
    return found


def model_named(store: Store, id: str, *, lock: bool = False) -> Model:
    """Return the model of an id, locked when asked: whoever judges or points an alias does it one by one.

    Raises:
        NotFound: There is none; near ones are named.
    """
    found = store.model(id, lock=lock)
    if found is None:
        known = [model.id for model in store.models("", _KNOWN)]
        raise NotFound.of("MODEL_NOT_FOUND", "model", id, known)
    return found


def _no_version(store: Store, model: Model, number: str) -> NotFound:
    numbers = [str(version.number) for version in store.versions(model.id, None, 10)]
    there = f"its versions: {', '.join(numbers)}" if numbers else "it has none yet"
    return NotFound(
        "MODEL_VERSION_NOT_FOUND",
        f"{model.name} has no version {number!r}; {there}",
        metadata={"name": number, "near": ", ".join(numbers)},
    )
