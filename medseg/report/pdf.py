"""The page as a PDF, with nothing fetched and nothing run."""

import re

from medseg.errors import ResourceError

_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
_DEFINED = re.compile(r"(--[\w-]+):\s*([^;}]+)")
_ROOT = re.compile(r":root\s*\{([^}]*)\}")
_PRINT = re.compile(r"@media print\s*\{")
_USED = re.compile(r"var\((--[\w-]+)\)")
# What WeasyPrint draws otherwise than a browser: buttons, grids in cells, nested flex boxes.
_STYLE = """
th button { border: 0; background: none; padding: 0; margin: 0; font: inherit; color: inherit; }
th { font-size: 6.2pt; padding-right: 4pt; }
.keyed, .gallery, .figures { display: block; }
.keyed > * { display: inline; }
td.arm { min-width: 2.6cm; }
td.verdict { min-width: 2.6cm; max-width: none; }
.figures figure { display: inline-block; width: 12.5cm; margin: 0 5mm 3mm 0; vertical-align: top; }
figure.wide svg { max-width: 13cm; }
td code { overflow-wrap: anywhere; }
.gallery { orphans: 1; widows: 1; }
.gallery figure { display: inline-block; width: 2.2cm; margin: 0 1.5mm 3mm 0; vertical-align: top; }
.gallery img { width: 2.2cm; height: auto; }
.gallery .none { display: block; min-height: 2cm; }
.summary li::before { left: 0; }
"""
_REMEDY = (
    "pip install 'medseg[pdf]' and, on Debian, apt-get install libpango-1.0-0 libpangoft2-1.0-0; "
    "or print the page from a browser"
)


def render_pdf(html: str) -> bytes:
    """The page as it would be printed, by WeasyPrint.

    Scripts are taken out and only `data:` is read, so that a page cannot reach anything.

    Raises:
        ResourceError: WeasyPrint or the library Pango, which it needs, is not installed.
    """
    try:
        from weasyprint import CSS, HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:  # OSError: Pango is missing
        raise ResourceError(f"pdf: WeasyPrint cannot be used ({error}); {_REMEDY}") from error
    page = _with_colours(_SCRIPT.sub("", html))
    fetcher = URLFetcher(allowed_protocols=("data",))
    content = HTML(string=page, url_fetcher=fetcher).write_pdf(stylesheets=[CSS(string=_STYLE)])
    return content or b""


def _with_colours(html: str) -> str:
    """The page with its colours written out: the drawings ask for them where WeasyPrint has none.

    Those of the first `:root` hold, and over them those that printing sets.
    """
    printed = _PRINT.search(html)
    roots = [_ROOT.search(html), _ROOT.search(html, printed.end()) if printed else None]
    colours = {
        name: value.strip() for root in roots if root for name, value in _DEFINED.findall(root[1])
    }
    return _USED.sub(lambda found: colours.get(found[1], found[0]), html)
