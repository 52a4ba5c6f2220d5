"""Writes the proxy files of this folder anew, out of forward_auth/proxy_config.py, and the page for an outage out of the pages.

For developers, after a change there: `python deploy/regenerate.py`. tests/proxies fails when the files and their source differ.
"""

from collections.abc import Mapping
from pathlib import Path

from forward_auth.proxy_config import deploy_files
from forward_auth.settings import PagesSettings
from forward_auth.web.pages import Pages

HERE = Path(__file__).parent


def everything() -> Mapping[str, str]:
    """Path below this folder -> text, of all that is made and not written by hand."""
    pages = Pages(PagesSettings(language="fr", establishment="", contact="", logo=None))
    return {**deploy_files(), "nginx/down.html": pages.static_down_page("fr")}


if __name__ == "__main__":
    for name, text in everything().items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
