"""Exact rewrites of the trained networks, one small pass per file; each leaves the float result as it was."""
