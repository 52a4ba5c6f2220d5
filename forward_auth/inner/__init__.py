"""The inner door: what proxies, Prometheus and probes speak to. Refuses: to know aiohttp, or anything of PSC."""
