"""The application for gunicorn: ``gunicorn -c python:cbm_api.gunicorn cbm_api.wsgi:app``."""

from cbm_api.app import create_app
from cbm_core import settings

app = create_app(settings.load())
