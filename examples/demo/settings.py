"""The settings of the demo's Django app. `demo.toml` names this module."""

from pathlib import Path

ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "examples.demo.web"
SECRET_KEY = "a demo keeps no secret"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
    }
]
USE_TZ = True
