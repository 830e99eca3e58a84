"""Alembic migrations from inside a package (so that the image has them), under an advisory lock."""

from importlib.resources import as_file, files
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool


def migrate(url: str, package: str) -> str:
    """Bring the database to the newest revision of `{package}/migrations/versions`; return it.

    Every replica may call it at its start: one works, the others wait for the lock and find nothing
    left to do. All revisions apply in one transaction.

    Args:
        url: SQLAlchemy URL.
        package: Importable package with a folder `migrations`.
    """
    with as_file(files(package) / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory.from_config(config)

        def upgrade(revision: Any, context: Any) -> Any:
            return script._upgrade_revs("head", revision)

        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection, EnvironmentContext(config, script, fn=upgrade) as environment:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('slipway-migrate', 0))"))
            environment.configure(connection=connection)
            environment.run_migrations()
        engine.dispose()
        return script.get_current_head() or ""
