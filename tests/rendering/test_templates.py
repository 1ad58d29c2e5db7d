"""Templates: the only place that builds HTML, where every value is escaped and none may be missing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from retrieval.common.text import safe_name
from retrieval.rendering.html import _environment, render, render_hits_page
from tests.support.command import PROJECT

FOLDER = PROJECT / "retrieval" / "rendering" / "templates"
TEMPLATES = sorted(FOLDER.rglob("*.*"))
MODULES = [*(PROJECT / "retrieval").rglob("*.py"), *(PROJECT / "indexes").rglob("*.py"), PROJECT / "cli.py"]
TAGS = {tag for file in TEMPLATES for tag in re.findall(r"<([a-z][a-z0-9]*)", file.read_text("utf-8"))} | {"bdi"}
HTML = re.compile(rf"</?({'|'.join(sorted(TAGS))})[\s/>]")


def strings(module: Path) -> Iterator[str]:
    """Yield the strings of a module, f-strings' parts among them, without its docstrings."""
    tree = ast.parse(module.read_text("utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_only_templates_build_html() -> None:
    assert {"article", "figure", "svg", "td"} <= TAGS
    html = {(module.name, text) for module in MODULES for text in strings(module) if HTML.search(text)}
    assert html == {("html.py", "<bdi>{}</bdi>")}  # what escapes a name, as the filter of all templates


def test_no_template_turns_escaping_off() -> None:
    assert _environment().autoescape is True
    for file in TEMPLATES:
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", file.read_text("utf-8")), file.name


@pytest.mark.slow
@pytest.mark.parametrize("template", [file.relative_to(FOLDER).as_posix() for file in TEMPLATES])
def test_every_template_compiles(template: str) -> None:
    assert _environment().get_template(template).name == template


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'results' is undefined"):
        render("hits.html")


def test_names_are_escaped_and_isolated() -> None:
    name = _environment().filters["name"]
    assert name("<b>\n") == Markup("<bdi>&lt;b&gt;\\x0a</bdi>")
    assert name(safe_name("a\udcff")) == name("a\udcff")  # names that are safe already stay the same


def test_a_page_of_no_queries_says_so() -> None:
    assert "<p>No queries.</p>" in render_hits_page([])
