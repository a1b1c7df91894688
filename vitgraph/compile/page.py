"""Self-contained HTML pages from `templates/`; what is put into them is escaped, and a name that is not there is an error."""

from __future__ import annotations

from typing import Any


def render(template: str, **values: Any) -> str:
    """The page that a template makes of these values."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vitgraph.compile", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
