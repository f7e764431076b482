"""Prometheus service discovery for apps deployed with Kamal."""

__version__ = "0.1.0"
