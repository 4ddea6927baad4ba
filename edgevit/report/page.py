"""A report as one page of HTML that needs nothing beside it: no script, no font, no picture from elsewhere."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from edgevit.report.document import Report

MARK = '<meta name="generator" content="edgevit report">'  # in pages of edgevit's own


def html(report: Report) -> str:
    """The page; a report says the same in the same bytes. What comes from a manifest is escaped."""
    return template().render(report=report, mark=Markup(MARK), drawn=Markup)


@cache
def template() -> Template:
    environment = Environment(
        loader=PackageLoader("edgevit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")
