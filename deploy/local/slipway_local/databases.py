"""Makes every service's role and database, and brings each to its newest revision; then ends.

One interpreter does for all services what `migrate` does for one: a start of Python is what costs.
Run as `python -m slipway_local.databases PLAN.json`.
"""

import importlib.util
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from slipway_runtime.db import migrate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owned:
    """A service's database: its role has the same name."""

    package: str
    name: str
    password: str
    url: str


@dataclass(frozen=True)
class Plan:
    """What there should be."""

    maintenance_url: str
    owned: list[Owned]

    def write(self, path: Path) -> Path:
        """Write it for the process that carries it out."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read what `write` wrote."""
        found = json.loads(path.read_text())
        return cls(found["maintenance_url"], [Owned(**one) for one in found["owned"]])


def create(plan: Plan) -> None:
    """Make the roles and databases that are not there yet; a role may enter no other's database."""
    with psycopg.connect(plan.maintenance_url, autocommit=True) as connection:
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for owned in plan.owned:
            name, password = sql.Identifier(owned.name), sql.Literal(owned.password)
            if owned.name not in roles:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, password))
            if owned.name not in databases:
                statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0")
                connection.execute(statement.format(name, name))
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))


def bring_up_to_date(owned: Owned) -> bool:
    """Apply the package's migrations; say how it went. One service's trouble does not hold up the others."""
    if importlib.util.find_spec(owned.package) is None:
        print(f"{owned.package} is not installed; its database stays empty", flush=True)
        return True
    try:
        print(f"{owned.name} is at {migrate(owned.url, owned.package)}", flush=True)
    except Exception:
        log.exception("the migrations of %s failed", owned.package)
        return False
    return True


def main() -> None:
    """Carry out the plan; exit code 1 when a migration failed."""
    plan = Plan.read(Path(sys.argv[1]))
    create(plan)
    went_well = [bring_up_to_date(owned) for owned in plan.owned]  # alembic's `op` is one per process
    sys.exit(0 if all(went_well) else 1)


if __name__ == "__main__":
    main()
