"""Plumbing: nothing here knows the method, and nothing here imports a room."""
