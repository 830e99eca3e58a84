"""Objects on disk: every write is durable before it is answered, and revisions never go back."""

import json
import sqlite3
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonpatch

Manifest = dict[str, Any]
Key = tuple[str, str, str]


class Conflict(Exception):
    """The object exists already, or is not any more what the caller read (409)."""

    def __init__(self, message: str, reason: str = "Conflict") -> None:
        super().__init__(message)
        self.reason = reason


class Unprocessable(Exception):
    """The patch does not apply (422)."""


class Missing(Exception):
    """There is no such object (404)."""


class Objects:
    """Objects by (kind, namespace, name), in SQLite with full synchronisation."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._database = sqlite3.connect(folder / "objects.db", check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS objects (kind TEXT, namespace TEXT, name TEXT, body TEXT, "
            "PRIMARY KEY (kind, namespace, name))"
        )
        self._database.execute("CREATE TABLE IF NOT EXISTS revision (number INTEGER)")
        rows = self._database.execute("SELECT kind, namespace, name, body FROM objects").fetchall()
        self._objects: dict[Key, Manifest] = {tuple(row[:3]): json.loads(row[3]) for row in rows}
        kept = self._database.execute("SELECT max(number) FROM revision").fetchone()[0]
        self.revision = int(kept or 0)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def get(self, key: Key) -> Manifest:
        """Return an object.

        Raises:
            Missing: There is none.
        """
        with self._lock:
            if key not in self._objects:
                raise Missing(key[2])
            return _copy(self._objects[key])

    def list(self, kind: str, namespace: str) -> list[Manifest]:
        """Return the objects of a kind by name."""
        with self._lock:
            found = [key for key in self._objects if key[0] == kind and key[1] == namespace]
            return [_copy(self._objects[key]) for key in sorted(found)]

    def create(self, key: Key, manifest: Manifest) -> Manifest:
        """Store a new object.

        Raises:
            Conflict: There is one of that name.
        """
        with self._lock:
            if key in self._objects:
                raise Conflict(f'"{key[2]}" already exists', "AlreadyExists")
            made = _copy(manifest)
            made["metadata"] |= {
                "namespace": key[1],
                "uid": str(uuid.uuid4()),
                "generation": 1,
                "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            return self._write(key, made)

    def replace(self, key: Key, manifest: Manifest, check: Callable[[Manifest], None]) -> Manifest:
        """Store an object over the one there; a resourceVersion that is sent must be the current one.

        Raises:
            Missing: There is none.
            Conflict: The resourceVersion is stale.
        """
        with self._lock:
            current = self.get(key)
            sent = manifest["metadata"].get("resourceVersion")
            if sent and sent != current["metadata"]["resourceVersion"]:
                raise Conflict(
                    "the object has been modified; please apply your changes to the latest version"
                )
            check(manifest)
            return self._update(key, current, manifest)

    def patch(self, key: Key, operations: Any, check: Callable[[Manifest], None]) -> Manifest:
        """Apply a JSON patch (RFC 6902) as a whole or not at all.

        Raises:
            Missing: There is no such object.
            Unprocessable: A test failed, or an operation does not fit.
        """
        with self._lock:
            current = self.get(key)
            try:
                changed = jsonpatch.apply_patch(current, operations)
            except (
                jsonpatch.JsonPatchException,
                jsonpatch.JsonPointerException,
                TypeError,
                KeyError,
            ) as error:
                message = f"the server rejected our request due to an error in our request: {error}"
                raise Unprocessable(message) from error
            check(changed)
            return self._update(key, current, changed)

    def set_status(self, key: Key, status: Any) -> Manifest:
        """Write an object's status; its generation stays."""
        with self._lock:
            current = self.get(key)
            return self._write(key, {**current, "status": status})

    def delete(self, key: Key) -> Manifest:
        """Take an object away.

        Raises:
            Missing: There is none.
        """
        with self._lock:
            gone = self.get(key)
            self._commit("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", key)
            del self._objects[key]
            return gone

    def _update(self, key: Key, current: Manifest, wanted: Manifest) -> Manifest:
        made = _copy(wanted)
        if "status" in current:
            made["status"] = current["status"]
        kept = current["metadata"]
        made["metadata"] |= {name: kept[name] for name in ("uid", "creationTimestamp", "namespace", "name")}
        made["metadata"]["resourceVersion"] = kept["resourceVersion"]
        changed = made.get("spec") != current.get("spec")
        made["metadata"]["generation"] = kept["generation"] + int(changed)
        if made == current:
            return current
        return self._write(key, made)

    def _write(self, key: Key, manifest: Manifest) -> Manifest:
        manifest["metadata"]["resourceVersion"] = str(self.revision + 1)
        body = json.dumps(manifest)
        self._commit("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*key, body))
        self._objects[key] = manifest
        return _copy(manifest)

    def _commit(self, statement: str, values: tuple[str, ...]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.execute(statement, values)
            self._database.execute("DELETE FROM revision")
            self._database.execute("INSERT INTO revision VALUES (?)", (self.revision + 1,))
            self._database.execute("COMMIT")
        except BaseException:  # a full disk: memory keeps what the file has, and the next write may succeed
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        self.revision += 1


def _copy(manifest: Manifest) -> Manifest:
    return dict(json.loads(json.dumps(manifest)))
