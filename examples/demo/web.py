"""The demo's pages: Django, by WSGI."""

import os
import time
from http.client import HTTPConnection

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "index.html", {"pid": os.getpid()})


def slow(request: HttpRequest) -> HttpResponse:
    """Wait for half a second, as for a database."""
    time.sleep(0.5)
    return HttpResponse(str(os.getpid()))


def status(request: HttpRequest) -> HttpResponse:
    """Show what `reactor-run status --json` shows."""
    admin = HTTPConnection(os.environ["DEMO_ADMIN"], timeout=5)
    try:
        admin.request("GET", "/status")
        report = admin.getresponse().read()
    finally:
        admin.close()
    return HttpResponse(report, content_type="application/json")


urlpatterns = [
    path("", index),
    path("slow", slow),
    path("status", status),
]

application = get_wsgi_application()
