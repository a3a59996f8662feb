"""Django in one file, for WSGI and ASGI: a page, JSON, upload and streaming.

    reactor-run examples.django_app:application
    reactor-run examples.django_app:asgi_application

Django's ASGI handler calls asyncio, so it runs on `asyncio` and `uvloop`, but not on `trio`.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import engines
from django.urls import path
from django.views.decorators.http import require_POST

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="an example keeps no secret",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_TZ=True,
)

PAGE = """<!doctype html>
<title>Django on reactor-run</title>
<h1>Django on reactor-run</h1>
<p>Hello, {{ name }}. You came by {{ request.scheme }} from {{ request.META.REMOTE_ADDR }}.</p>
"""


def index(request: HttpRequest) -> HttpResponse:
    context = {"name": request.GET.get("name", "visitor"), "request": request}
    return HttpResponse(engines["django"].from_string(PAGE).render(context))


def item(request: HttpRequest, item_id: int) -> HttpResponse:
    answer = {"item_id": item_id, "q": request.GET.get("q"), "tags": request.GET.getlist("tag")}
    return JsonResponse(answer)


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES.get("file")
    if file is None:
        return JsonResponse({"error": "send a file in the field 'file'"}, status=400)
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return JsonResponse({"filename": file.name, "size": file.size, "sha256": digest.hexdigest()})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    lines = int(request.GET.get("lines", "10"))

    def produce() -> Iterator[str]:
        for number in range(lines):
            yield f"line {number}\n"

    async def produce_async() -> AsyncIterator[str]:
        for line in produce():
            yield line

    produced = produce_async() if isinstance(request, ASGIRequest) else produce()
    return StreamingHttpResponse(produced, content_type="text/plain")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("this view always fails")


urlpatterns = [
    path("", index),
    path("items/<int:item_id>", item),
    path("upload", upload),
    path("stream", stream),
    path("broken", broken),
]

application = get_wsgi_application()
asgi_application = get_asgi_application()
