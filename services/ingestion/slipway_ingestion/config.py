"""Settings of ingestion."""

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ObjectSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings, ObjectSettings):
    """What ingestion reads from its environment."""

    max_item_bytes: int = Field(16 << 20, description="bytes; a larger item is refused, the rest goes in")
    max_upload_items: int = Field(1_000_000, description="items; an upload with more is refused")
    max_upload_bytes: int = Field(64 << 30, description="bytes; an upload with more is refused")
    pack_bytes: int = Field(8 << 20, description="bytes; blobs are packed up to this size, then stored")
    cache_bytes: int = Field(128 << 20, description="bytes of packs and ranges kept in memory for reads")
    erasure_interval_s: float = Field(
        2.0, description="seconds between two looks for erasures that have something left to remove"
    )
