"""Kamal's deploy.yml, read without Kamal: what is wrong in it for Prometheus, and what to add."""
