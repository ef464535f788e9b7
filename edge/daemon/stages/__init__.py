"""A part's way through the daemon: each stage a pure step and a thin loop around it."""
