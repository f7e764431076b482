"""A page as a browser reads it, and what is wrong with it."""

from collections import Counter
from html.parser import HTMLParser
from typing import Final, Self

_VOID: Final = frozenset({"meta", "link", "input", "br"})
# What a page of ours is made of, and nothing else is.
_ELEMENTS: Final = _VOID | frozenset(
    [
        "html",
        "head",
        "title",
        "script",
        "body",
        "a",
        "header",
        "h1",
        "h2",
        "p",
        "nav",
        "form",
        "label",
        "select",
        "option",
        "button",
        "main",
        "span",
        "section",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "ol",
        "ul",
        "li",
        "time",
        "pre",
        "strong",
        "footer",
    ]
)
_ATTRIBUTES: Final = frozenset(
    [
        "lang",
        "charset",
        "name",
        "content",
        "rel",
        "href",
        "src",
        "defer",
        "class",
        "id",
        "role",
        "aria-label",
        "aria-labelledby",
        "method",
        "action",
        "type",
        "value",
        "autocomplete",
        "selected",
        "tabindex",
        "scope",
        "colspan",
        "data-label",
        "data-copy",
        "datetime",
        "title",
    ]
)


class Element:
    """An element with its attributes and all the text in it."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.inside: list[Element] = []
        self.parts: list[str] = []

    @property
    def text(self) -> str:
        """Its text, with single spaces."""
        return " ".join("".join(self.parts).split())

    def all(self, tag: str = "") -> list["Element"]:
        """The elements in it, of that kind."""
        found = []
        for each in self.inside:
            found += [each, *each.all()]
        return [each for each in found if not tag or each.tag == tag]


class Page(HTMLParser):
    """A whole page. Reading one that is not well-formed raises AssertionError."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    @classmethod
    def read(cls, text: str) -> Self:
        """The page of that text, all of it looked at."""
        page = cls()
        page.feed(text)
        page.close()
        assert page._open == [page.root], f"not closed: {[each.tag for each in page._open]}"
        page._check()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _ELEMENTS, tag
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), f"{tag} has an attribute twice: {attrs}"
        assert attributes.keys() <= _ATTRIBUTES, attributes
        element = Element(tag, attributes)
        self._open[-1].inside.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for each in self._open:
            each.parts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def _check(self) -> None:
        ids = Counter(each.attributes["id"] for each in self.all() if "id" in each.attributes)
        assert not [
            name for name, count in ids.items() if count > 1 or name != "".join(name.split())
        ]
        for each in self.all():
            for name in ("aria-labelledby", "data-copy"):
                assert each.attributes.get(name) in {None, *ids}
            assert "//" not in each.attributes.get("src", "") + each.attributes.get("href", "")
        (script,) = self.all("script")
        assert (script.attributes, script.text) == ({"src": "page.js", "defer": ""}, "")

    def all(self, tag: str = "") -> list[Element]:
        """The elements of that kind, in their order."""
        return self.root.all(tag)

    def __getitem__(self, identity: str) -> Element:
        """The element with that id."""
        (found,) = (each for each in self.all() if each.attributes.get("id") == identity)
        return found

    def section(self, heading: str) -> Element:
        """The section with that heading."""
        (found,) = (
            each for each in self.all("section") if heading in [one.text for one in each.all("h2")]
        )
        return found

    def rows(self, heading: str) -> list[list[str]]:
        """The texts of a section's table, less its head."""
        return [
            [cell.text for cell in row.inside]
            for body in self.section(heading).all("tbody")
            for row in body.all("tr")
        ]
