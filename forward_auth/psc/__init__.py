"""How we speak to Pro Santé Connect.

strict.py reads JSON and base64url without indulgence; keys.py knows PSC's signing keys; tokens.py decides which signed tokens
are believed (`acr` is checked there); messages.py builds each message and checks each answer; client.py is the only file that
sends a request. Refuses: to know anything of browsers, cookies, rules or stores (a store only keeps its last good copy).
"""
