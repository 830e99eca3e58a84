"""Settings of the registry."""

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ObjectSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings, ObjectSettings):
    """What the registry reads from its environment."""

    max_bundle_bytes: int = Field(4 << 30, description="bytes; a larger bundle is refused before it is read")
    ingestion: str = Field("", description="address of ingestion; empty: nobody hears of erasures here")
    erasure_interval_s: float = Field(
        5.0, description="seconds between two looks for erasures; so long runs and versions stay unmarked"
    )
    staging_dir: str = Field("", description="folder for arriving bundles; empty: the temporary one")
