"""A small typed client of a Slipway platform.

>>> from slipway.client import Client
>>> with Client() as client:  # finds the platform that `slipway up` started here
...     upload = client.upload_folder("flowers", Path("flowers"))
...     client.commit("flowers", "first pictures", uploads=[upload.name])
"""

from slipway.client.client import ENDED, SNAPSHOT_ENDED, Client, resource
from slipway.client.errors import SlipwayError, Violation
from slipway.client.paging import pages
from slipway.client.prediction import Prediction, bucket_of, image_tensor
from slipway.client.sources import Item, left_out, read_source

__all__ = [
    "ENDED",
    "SNAPSHOT_ENDED",
    "Client",
    "Item",
    "Prediction",
    "SlipwayError",
    "Violation",
    "bucket_of",
    "image_tensor",
    "left_out",
    "pages",
    "read_source",
    "resource",
]
