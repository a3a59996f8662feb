"""What the pages of Flask and Django show: two lists, of twenty rows and of 118 articles."""

from typing import Final

ROWS: Final = [{"name": f"<item {number}>", "price": number * 1.25} for number in range(20)]

ARTICLES: Final = [
    {
        "id": number,
        "name": f"Article <{number}> & all that belongs to it",
        "price": number * 1.25,
        "text": "It comes with a box, two years of warranty, and a leaflet in nine languages.",
    }
    for number in range(118)
]
"""With the templates below, a page of 30 KB."""

ARTICLE: Final = (
    '<article class="card" id="article-{{ article.id }}"><h2><a href="/articles/{{ article.id }}">'
    '{{ article.name }}</a></h2><p class="text">{{ article.text }}</p><p class="price">'
    "PRICE</p></article>\n"
)
"""The template of an article. Jinja and Django write PRICE differently."""
