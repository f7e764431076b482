"""The real parts: an engine, a registry, SSH, Kamal and Prometheus, for tests and the demo."""
