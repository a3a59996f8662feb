"""Flask: a page of twenty rows from a Jinja template."""

from flask import Flask, render_template, request
from jinja2 import DictLoader

app = Flask(__name__)
app.jinja_loader = DictLoader(
    {
        "base.html": "<!doctype html><title>{% block title %}{% endblock %}</title>"
        "<main>{% block main %}{% endblock %}</main>",
        "list.html": "{% extends 'base.html' %}{% block title %}{{ title }}{% endblock %}"
        "{% block main %}<h1>{{ title }}</h1><table>{% for row in rows %}"
        "<tr><td>{{ loop.index }}<td>{{ row.name }}<td>{{ '%.2f'|format(row.price) }}"
        "{% endfor %}</table>{% endblock %}",
    }
)
_ROWS = [{"name": f"<item {number}>", "price": number * 1.25} for number in range(20)]


@app.get("/")
def index() -> str:
    return render_template("list.html", title=request.args.get("title", "Items"), rows=_ROWS)
