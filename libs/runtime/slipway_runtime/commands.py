"""A service's command line: `python -m slipway_NAME.main serve | worker | migrate`."""

import argparse
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

from slipway_runtime.db import migrate
from slipway_runtime.settings import SettingsError


class _Settings(Protocol):
    """Settings of a service that owns a database."""

    @property
    def database_url(self) -> str: ...

    @classmethod
    def from_env(cls) -> Self: ...


S = TypeVar("S", bound=_Settings)


def run(package: str, settings: type[S], **verbs: Callable[[S], None]) -> None:
    """Do the verb that the command line names; `migrate` brings the database up to date.

    A refused setting ends the process with code 2 and the text that names it.

    Args:
        package: Of the service; its migrations lie in it.
        settings: Read from the environment, and given to the verb.
        verbs: What the service does by name: `serve`, `worker`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}.main")
    parser.add_argument("verb", choices=[*verbs, "migrate"])
    verb = parser.parse_args().verb
    try:
        read = settings.from_env()
    except SettingsError as error:
        parser.exit(2, f"{error}\n")
    if verb == "migrate":
        migrate(read.database_url, package)
    else:
        verbs[verb](read)
