"""The way in: an engine's API, and what its lists and events say of its containers."""
