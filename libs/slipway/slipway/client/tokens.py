"""API tokens become short JWTs, fetched again before they expire."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from slipway.client.errors import SlipwayError

if TYPE_CHECKING:
    import httpx

_REFRESH_BEFORE_S = 60.0
_AWAY = (502, 503, 504)


def refusal(response: httpx.Response) -> SlipwayError:
    """Return the error in a response of the REST door (AIP-193)."""
    try:
        document = response.json()["error"]
        status = Status(message=document["message"])
        json_format.ParseDict({"details": document.get("details", [])}, status, ignore_unknown_fields=True)
        error = SlipwayError.from_status(status)
    except (ValueError, KeyError, TypeError, json_format.ParseError):
        return _of_the_mesh(response)
    error.code = document["status"]
    return error


def _of_the_mesh(response: httpx.Response) -> SlipwayError:
    """Return the error in an answer that the gateway did not write: its sidecar did when it is away."""
    if response.status_code in _AWAY:
        text = f"nobody behind {response.url} answers now ({response.status_code}); try again"
        return SlipwayError("UNAVAILABLE", "UNAVAILABLE", text)
    return SlipwayError("UNKNOWN", "UNKNOWN", f"{response.url} answered {response.status_code}")


class Rest:
    """The REST door. What speaks HTTP is loaded when it is first used: a pipeline's step seldom does.

    Args:
        url: `http(s)://host:port`.
        timeout_s: Seconds for one request.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url
        self._timeout_s = timeout_s

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        return httpx.Client(base_url=self.url, timeout=self._timeout_s)

    def send(
        self,
        method: str,
        path: str,
        *,
        token: str,
        json: object = None,
        content: bytes | None = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Return a good answer.

        Raises:
            SlipwayError: The door refused, or is not there.
        """
        import httpx

        sent = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            response = self._http.request(
                method, path, json=json, content=content, params=params, headers={**sent, **(headers or {})}
            )
        except httpx.TransportError as error:
            text = f"the REST door at {self.url} cannot be reached; `slipway up` starts it"
            raise SlipwayError("UNAVAILABLE", "UNAVAILABLE", text) from error
        if response.status_code >= 400:
            raise refusal(response)
        return response

    def close(self) -> None:
        """Close the connections."""
        if "_http" in self.__dict__:
            self._http.close()


class Tokens:
    """Gives the JWT of the moment.

    Args:
        rest: Where API tokens are exchanged.
        token: An API token (`slp_…`), or a JWT, which is sent as it is.
    """

    def __init__(self, rest: Rest, token: str) -> None:
        self._rest = rest
        self._token = token
        self._lock = threading.Lock()
        self._jwt = ""
        self._good_until = 0.0

    def __call__(self) -> str:
        """Return a JWT that is good for a minute more.

        Raises:
            SlipwayError: There is no token, or the gateway refused it.
        """
        if not self._token:
            text = "there is no token: set SLIPWAY_TOKEN, or run in the folder where `slipway up` was run"
            raise SlipwayError("UNAUTHENTICATED", "TOKEN_MISSING", text)
        if not self._token.startswith("slp_"):
            return self._token
        with self._lock:
            if time.monotonic() >= self._good_until:
                answer = self._rest.send("POST", "/v1/auth:exchange", token=self._token).json()
                self._jwt = str(answer["access_token"])
                life_s = float(answer["expires_in"])
                self._good_until = time.monotonic() + life_s - min(_REFRESH_BEFORE_S, life_s / 2)
            return self._jwt
