"""Forward authentication with Pro Santé Connect: one small server beside a reverse proxy."""

__version__ = "0.1.0"
