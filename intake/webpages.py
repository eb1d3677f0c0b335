"""HTML → what a page says, without what every page of its site repeats: menus, banners, forms, the footer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import regex

if TYPE_CHECKING:
    from bs4 import Tag

_ABOUT_THE_SITE = ("script", "style", "noscript", "template", "svg", "iframe", "form", "nav", "footer", "dialog")
_ROLES = ("navigation", "contentinfo", "search", "dialog", "alertdialog")
_CALLED = regex.compile(
    r"(?i)(?:^|[-_])(?:cookies?|consent|gdpr|newsletter|subscribe|breadcrumbs?|crumbs|navbar|menu|skip-link)(?:$|[-_])"
)
"""What elements about the site are called, by class or id."""
_MOST = 0.5
"""The share of a page's letters that an element about the site may hold; a larger one is the page itself."""
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6", "dt", "p")


def said_by(page: bytes) -> bytes:
    """The HTML of what a page says, as UTF-8.

    Of a page with a `<main>`, that alone; of another, all but menus, footers, forms and banners. What is clicked to open an
    answer, a `<summary>` or a button that asks something, is a bold line.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page, "html.parser", from_encoding="utf-8")
    for opener in (*soup("summary"), *(button for button in soup("button") if not button.find_parent(_HEADINGS))):
        if opener.name == "summary" or opener.get_text(strip=True).endswith("?"):
            _make_bold_line(soup, opener)
    main = [element for element in soup("main") if element.get_text(strip=True)]
    whole = main[0] if len(main) == 1 else soup.body or soup
    most = _MOST * len(whole.get_text())
    for element in list(_about_the_site(whole)):
        if not element.decomposed and len(element.get_text()) <= most:
            element.decompose()
    title = str(soup.title) if soup.title else ""
    return f"<html><head>{title}</head><body>{whole}</body></html>".encode()


def _make_bold_line(soup: Any, opener: Tag) -> None:
    opener.name, opener.attrs = "p", {}
    bold = soup.new_tag("b")
    for child in list(opener.contents):
        bold.append(child.extract())
    opener.append(bold)


def _about_the_site(whole: Tag) -> Iterator[Tag]:
    for element in whole.find_all(True):
        called = [*(element.get_attribute_list("class")), element.get("id")]
        if (
            element.name in _ABOUT_THE_SITE
            or element.get("role") in _ROLES
            or any(_CALLED.search(str(name)) for name in called if name)
            or (element.name == "button" and not element.find_parent(_HEADINGS))
        ):
            yield element
