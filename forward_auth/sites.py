"""From settings to what the gate works with: apps and rules compiled, a Site for each origin.

For: start and reload, once. Refuses: nothing; config.py has refused whatever could not be compiled.
"""

from collections.abc import Mapping
from itertools import count

from forward_auth.gate import Site
from forward_auth.headers import HeaderPlan
from forward_auth.logins import Memory
from forward_auth.policy import App, Require, Rule
from forward_auth.settings import AppSettings, Settings


def compile_app(settings: AppSettings, ids: "count[int]", prefix: str) -> App:
    """One app. `ids` gives each rule a number that is unique in the whole policy."""
    rules = [
        Rule(
            id=next(ids),
            number=rule.number,
            line=rule.line,
            paths=rule.paths,
            methods=None if rule.methods is None else frozenset(method.encode() for method in rule.methods),
            open=rule.open,
            require=rule.require or Require(),
        )
        for rule in settings.rules
    ]
    return App(settings.name, rules, settings.title, settings.background_paths, prefix)


def compile_sites(settings: Settings, memory: Memory) -> Mapping[str, Site]:
    """Canonical origin -> Site, for all origins of all apps."""
    sites: dict[str, Site] = {}
    ids = count(1)
    for app_settings in settings.apps:
        app = compile_app(app_settings, ids, settings.server.path_prefix)
        headers = app_settings.headers
        plan = HeaderPlan(headers.profile, headers.encoding, headers.names)
        for origin in app_settings.origins:
            sites[origin.text] = Site(
                origin.text,
                memory.host(origin.host),
                app,
                plan,
                idle=app_settings.idle if app_settings.idle < settings.session.idle else None,
                preflight=app_settings.allow_preflight,
            )
    return sites
