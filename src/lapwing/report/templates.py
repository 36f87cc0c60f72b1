"""The templates of the pages: every value is escaped, and a missing one is an error."""

import re
from typing import Any

# Characters that no page can show, and those that turn the direction of the text around them.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


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


def clean(text: str) -> str:
    """A text without characters that a page cannot show or that reverse what stands around them."""
    return _UNSHOWN.sub("\ufffd", text)
