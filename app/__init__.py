"""Prometheus service discovery for apps deployed with Kamal."""

__version__ = "0.1.0"

# The commit, where git has exported this file, as for every release; a checkout says none.
_exported = "$Format:%H$"
__revision__ = "" if _exported.startswith("$") else _exported
