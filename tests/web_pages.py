"""Read a self-contained page as a browser would: tags, texts and what might be loaded."""

import re
from html.parser import HTMLParser

HOSTILE = ["</script><script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "a & b, c > d", "--><!--", "ä✓"]


class WebPage(HTMLParser):
    """tags: (name, attributes); texts: (tag, text) outside of scripts and styles; scripts: their texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts, self.scripts, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr", "input", "br"):
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._open and self._open[-1] != "style":
            self.texts.append((self._open[-1], data))

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.texts)

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every such tag."""
        return [attributes for actual, attributes in self.tags if actual == tag]


def check_self_contained(text: str) -> None:
    """Fail where a page loads something, runs an attribute's script, or is not one whole page."""
    page = WebPage(text)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import\(", text)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "img-src data:" in policy
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert all(len(page.all(tag)) == 1 for tag in ("html", "head", "body", "style", "main"))
    assert not any(word in script for script in page.scripts for word in ("innerHTML", "eval("))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for script in page.scripts:
        assert set(re.findall(r'getElementById\("(\w+)"\)\.', script)) <= ids
