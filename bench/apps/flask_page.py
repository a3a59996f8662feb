"""Flask: a page of twenty rows, or of 30 KB, from a Jinja template."""

from flask import Flask, render_template, request
from jinja2 import DictLoader

from bench.apps.pages import ARTICLE, ARTICLES, ROWS

app = Flask(__name__)
app.jinja_loader = DictLoader(
    {
        "base.html": "<!doctype html><title>{% block title %}{% endblock %}</title>"
        "<main>{% block main %}{% endblock %}</main>",
        "list.html": "{% extends 'base.html' %}{% block title %}{{ title }}{% endblock %}"
        "{% block main %}<h1>{{ title }}</h1><table>{% for row in rows %}"
        "<tr><td>{{ loop.index }}<td>{{ row.name }}<td>{{ '%.2f'|format(row.price) }}"
        "{% endfor %}</table>{% endblock %}",
        "page.html": "{% extends 'base.html' %}{% block title %}{{ title }}{% endblock %}"
        "{% block main %}<h1>{{ title }}</h1>{% for article in articles %}"
        + ARTICLE.replace("PRICE", "{{ '%.2f'|format(article.price) }}")
        + "{% endfor %}{% endblock %}",
    }
)


@app.get("/")
def index() -> str:
    return render_template("list.html", title=request.args.get("title", "Items"), rows=ROWS)


@app.get("/page")
def page() -> str:
    title = request.args.get("title", "Articles")
    return render_template("page.html", title=title, articles=ARTICLES)
