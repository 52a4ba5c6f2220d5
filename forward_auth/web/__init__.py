"""The outer door: what browsers speak to. Refuses: to know how PSC is spoken to (psc/ does), or to decide a check (the gate does)."""
