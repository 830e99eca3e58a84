"""The pages that people see: static files of this package, under a policy that lets nothing else in."""

import hashlib
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import Response

from slipway_gateway.api.door import name_operation, unknown_path

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Scripts and styles are files of our own, never text in the page; examples are shown from memory (`blob:`);
# nothing goes to, or comes from, another host. https://www.w3.org/TR/CSP3/
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked about each time: the files of one page belong together
}


@dataclass(frozen=True)
class File:
    """One file with its media type and a tag that changes with its bytes."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> "File":
        """Return the file of a name; its ending says the media type."""
        tag = hashlib.sha256(body).hexdigest()[:32]
        return cls(body, MEDIA_TYPES[name.rpartition(".")[2]], f'"{tag}"')

    def answer(self, known: str) -> Response:
        """Return the file, or 304 when the browser's tags (`If-None-Match`) have it already."""
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        headers = {**HEADERS, "ETag": self.etag}
        if self.etag in tags or "*" in tags:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


def read_files(page: str) -> dict[str, File]:
    """Return the files of a page by name."""
    folder = resources.files("slipway_gateway.api") / "static" / page
    return {one.name: File.of(one.name, one.read_bytes()) for one in folder.iterdir() if one.is_file()}


def router() -> APIRouter:
    """Return the routes of the labelling page."""
    routes = APIRouter(include_in_schema=False)
    files = read_files("label")

    async def page(request: Request) -> Response:
        name_operation(request, "LabelPage")
        return files["index.html"].answer(request.headers.get("if-none-match", ""))

    async def file(request: Request, name: str) -> Response:
        name_operation(request, "LabelPageFile")
        found = files.get(name)
        if found is None:
            near = [f"GET /label/files/{one}" for one in sorted(files)]
            raise unknown_path(request.method, request.url.path, near)
        return found.answer(request.headers.get("if-none-match", ""))

    for path in ("/label", "/label/", "/label/{project}"):
        routes.add_api_route(path, page, methods=["GET", "HEAD"])
    routes.add_api_route("/label/files/{name}", file, methods=["GET", "HEAD"])
    return routes
