"""Django without a database: a page of twenty rows, or of 30 KB, behind usual middleware."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from bench.apps.pages import ARTICLE, ARTICLES, ROWS
from bench.apps.slow import burn

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a measurement keeps no secret",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    (
                        "django.template.loaders.cached.Loader",
                        [
                            (
                                "django.template.loaders.locmem.Loader",
                                {
                                    "list.html": "<!doctype html><title>{{ title }}</title><table>"
                                    "{% for row in rows %}<tr><td>{{ forloop.counter }}"
                                    "<td>{{ row.name }}<td>{{ row.price|floatformat:2 }}"
                                    "{% endfor %}</table>",
                                    "page.html": "<!doctype html><title>{{ title }}</title>"
                                    "<h1>{{ title }}</h1>{% for article in articles %}"
                                    + ARTICLE.replace("PRICE", "{{ article.price|floatformat:2 }}")
                                    + "{% endfor %}",
                                },
                            )
                        ],
                    )
                ]
            },
        }
    ],
)


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "list.html", {"title": request.GET.get("title"), "rows": ROWS})


def page(request: HttpRequest) -> HttpResponse:
    content = {"title": request.GET.get("title"), "articles": ARTICLES}
    return render(request, "page.html", content)


def compute(request: HttpRequest, milliseconds: int) -> HttpResponse:
    burn(milliseconds / 1e3)
    return HttpResponse()


urlpatterns = [path("", index), path("page", page), path("burn/<int:milliseconds>", compute)]
application = get_wsgi_application()
