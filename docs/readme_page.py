"""A hook of the documentation's site: the README is its first page."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

README = Path(__file__).parent.parent / "README.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README with links as they are in the site, where the pages of `docs/` lie beside it."""
    text = README.read_text("utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files
