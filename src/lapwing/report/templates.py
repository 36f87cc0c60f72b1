"""The templates of the pages: every value is escaped, and a missing one is an error."""

from typing import Any


def template_environment() -> Any:
    """The Jinja environment that all pages are rendered in."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("lapwing", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
