"""The simulator's few pages: French, plain HTML forms, no script, no external resource, readable on a phone.

For: a human who tries the demonstration. Every page says that this is a simulator and not Pro Santé Connect: nobody may take it
for the real service, so neither its name nor its artwork dresses these pages. Everything inserted is escaped here.
"""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from .people import Person

_STYLE: Final = """
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0 auto;max-width:42rem;padding:0 1rem 2rem;font:1rem/1.5 system-ui,sans-serif}
.simulator{margin:1rem 0;padding:.75rem 1rem;border:3px dashed #b34700;border-radius:.5rem;font-weight:600}
fieldset{margin:0 0 1rem;border:1px solid #767676;border-radius:.5rem}
label{display:block;padding:.5rem 0}
button{display:block;width:100%;min-height:3rem;margin:.5rem 0;padding:.6rem 1rem;font:inherit;text-align:left;
border:1px solid #767676;border-radius:.5rem;cursor:pointer}
select{font:inherit;min-height:2.5rem;max-width:100%}
.small{font-size:.9rem}
""".strip()

_MODES: Final = {"CARD": "Carte (CPS)", "MOBILE": "Téléphone (e-CPS)"}
_LEVELS: Final = {"eidas1": "eidas1 — le niveau demandé", "0": "0 — inférieur", "": "aucun — acr absent"}


def page(title: str, body: str) -> str:
    """A whole page. `body` is HTML, already escaped."""
    return (
        '<!doctype html>\n<html lang="fr"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)} – SIMULATEUR</title><style>{_STYLE}</style></head><body>"
        '<p class="simulator" role="note">SIMULATEUR : ceci n’est pas Pro Santé Connect. '
        "Les personnes sont fictives, aucun secret n’est demandé.</p>"
        f"<main><h1>{escape(title)}</h1>{body}</main></body></html>\n"
    )


def _hidden(fields: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields)


def choose(action: str, fields: Iterable[tuple[str, str]], people: Mapping[str, Person], client_id: str) -> str:
    """The page to pick a person. `fields`: the authorization request, carried along."""
    modes = "".join(
        f'<label><input type="radio" name="mode" value="{code}"{" checked" if code == "CARD" else ""}> {label}</label>'
        for code, label in _MODES.items()
    )
    levels = "".join(f'<option value="{code}">{label}</option>' for code, label in _LEVELS.items())
    persons = "".join(
        f'<button type="submit" name="person" value="{escape(name)}">{escape(person["label"])}<br>'
        f'<span class="small">{escape(name)} · {escape(str(person["userinfo"]["SubjectNameID"]))}</span></button>'
        for name, person in people.items()
    )
    return page(
        "Qui s’identifie ?",
        f"<p>Le service <strong>{escape(client_id)}</strong> demande une identification.</p>"
        f'<form method="post" action="{escape(action)}">{_hidden(fields)}'
        f"<fieldset><legend>Moyen d’identification</legend>{modes}</fieldset>"
        f'<fieldset><legend>Niveau</legend><label for="acr">Niveau de garantie répondu (acr)</label>'
        f'<select id="acr" name="acr">{levels}</select></fieldset>'
        f"<h2>Choisir une personne</h2>{persons}"
        '<button type="submit" name="cancel" value="1">Annuler</button></form>',
    )


def refused(why: str) -> str:
    """The request cannot be answered at all (unknown client, wrong redirect URI)."""
    return page("Demande refusée", f"<p>{escape(why)}</p>")


def confirm_sign_out(action: str, fields: Iterable[tuple[str, str]]) -> str:
    """Nobody proved which session is meant: ask."""
    return page(
        "Se déconnecter ?",
        f'<form method="post" action="{escape(action)}">{_hidden(fields)}'
        '<button type="submit" name="confirm" value="1">Oui, fermer la session</button></form>',
    )


def signed_out() -> str:
    """The session is over and there is nowhere to go."""
    return page("Session fermée", "<p>Votre session est fermée. Vous pouvez fermer cette fenêtre.</p>")


def maintenance() -> str:
    """What a maintenance window looks like: HTML where JSON was expected."""
    return page("Maintenance", "<p>Le service est momentanément indisponible. Merci de réessayer plus tard.</p>")


def form_post(uri: str, pairs: Iterable[tuple[str, str]]) -> str:
    """response_mode=form_post, with a button instead of the usual script."""
    return page(
        "Retour au service",
        f'<form method="post" action="{escape(uri)}">{_hidden(pairs)}<button type="submit">Continuer</button></form>',
    )


def phone(action: str, waiting: Iterable[tuple[str, str, str, str]]) -> str:
    """The pretend phone: the CIBA requests that wait, as (id, label of the person, channel, two digits)."""
    forms = "".join(
        f'<form method="post" action="{escape(action)}"><fieldset><legend>{escape(label)} ({escape(channel)})</legend>'
        f"<p>Nombre affiché par le logiciel : <strong>{escape(digits)}</strong></p>"
        f"{_hidden([('auth_req_id', auth_req_id)])}"
        '<button type="submit" name="decision" value="approve">Confirmer</button>'
        '<button type="submit" name="decision" value="deny">Refuser</button></fieldset></form>'
        for auth_req_id, label, channel, digits in waiting
    )
    return page("Demandes en attente", forms or "<p>Aucune demande en attente.</p>")
