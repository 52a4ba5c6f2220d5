"""The names of the targets, for whoever must not import them yet: coverage is followed only of what is imported afterwards."""

NAMES = ("inner", "cookie", "forwarded", "target", "userinfo", "id_token", "jwks", "discovery", "toml")
