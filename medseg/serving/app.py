"""The service: `GET /` a page, `GET /model` what the network knows, `POST /predict` the work."""

import asyncio
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medseg import __version__
from medseg.errors import MedsegError
from medseg.report.cases.viewer import niivue
from medseg.serving.limits import Limits, Places, bounded, refuse_declared
from medseg.serving.work import Segmenter
from medseg.volumes import OKABE_ITO

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25  # between two looks whether the client is still there
_CLIENT_GONE = 499  # nobody reads it
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    },
    "responses": {"200": {"description": "the label map", "content": {"application/gzip": {}}}},
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data: "
        "blob:; connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def make_app(segmenter: Segmenter, limits: Limits, hosts: list[str]) -> FastAPI:
    """The service as an ASGI application.

    Args:
        segmenter: Does the work.
        limits: What is taken on.
        hosts: Names under which it may be asked for; others are refused, so that no web page
            reaches it by a name of its own that is made to point here.
    """
    # no /docs: its page loads from elsewhere
    app = FastAPI(title="medseg", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_OwnPagesOnly)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    pool, places = ThreadPoolExecutor(limits.workers), Places(limits)
    app.state.places = places

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return _read("page.html")

    @app.get("/page.js")
    def script() -> Response:
        return Response(_read("page.js"), media_type="text/javascript")

    @app.get("/niivue.js")
    def viewer() -> Response:
        return Response(niivue(), media_type="text/javascript")

    @app.get("/model")
    def model() -> dict[str, Any]:
        card = segmenter.card
        return {
            "dataset": card.dataset,
            "classes": card.labelling.value_names,
            "colours": OKABE_ITO,
            "channels": card.channels or card.in_channels,
            "medseg": __version__,
        }

    @app.post("/predict", openapi_extra=_UPLOAD, response_class=Response)
    async def predict(request: Request) -> Response:
        refuse_declared(request.headers.get("content-length"), limits)
        places.take()
        ends = [places.give_back]
        try:
            async with asyncio.timeout(limits.seconds):
                upload = await _upload_of(request, limits)
                ends.append(upload.file.close)
                stop = threading.Event()
                future = pool.submit(segmenter.segment, upload.file, stop)
                future.add_done_callback(_calls(ends))
                ends = []  # they are the work's own from here on
                try:
                    labels = await _finished(future, request)
                finally:
                    stop.set()
                    future.cancel()
        except TimeoutError:
            raise HTTPException(
                504, f"not done after {limits.seconds:g} s, the limit of this service"
            ) from None
        except MedsegError as error:
            raise HTTPException(422, str(error)) from error
        finally:
            for end in ends:
                end()
        disposition = {"Content-Disposition": 'attachment; filename="labels.nii.gz"'}
        return Response(labels, media_type="application/gzip", headers=disposition)

    return app


class _OwnPagesOnly:
    """Refuses what the pages of others ask for, and tells browsers what ours may load."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        origin = asked.get("origin")
        if origin is not None and urlsplit(origin).netloc != asked.get("host"):
            refusal = JSONResponse({"detail": "asked for by another web page"}, 403)
            await refusal(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


async def _upload_of(request: Request, limits: Limits) -> UploadFile:
    """The one file of a form; nothing more than the limit is read, or laid aside on the disk."""
    form = await Request(request.scope, bounded(request.receive, limits)).form(
        max_files=1, max_fields=4
    )
    uploads = [value for value in form.values() if isinstance(value, UploadFile)]
    if not uploads:
        raise HTTPException(422, "holds no file; send one as the form's field `file`")
    return uploads[0]


async def _finished(future: "Future[bytes]", request: Request) -> bytes:
    """The result of the work, unless the client leaves before."""
    work = asyncio.wrap_future(future)
    while not (await asyncio.wait({work}, timeout=_LOOK_SECONDS))[0]:
        if await request.is_disconnected():
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise HTTPException(_CLIENT_GONE, "the client has left")
    return work.result()


def _calls(ends: list[Any]) -> Any:
    loop = asyncio.get_running_loop()

    def call(_future: Future) -> None:
        with suppress(RuntimeError):  # the service has ended meanwhile
            for end in ends:
                loop.call_soon_threadsafe(end)

    return call


def _read(name: str) -> str:
    return resources.files("medseg.serving").joinpath(name).read_text(encoding="utf-8")
