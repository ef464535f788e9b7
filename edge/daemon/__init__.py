"""The daemon: trigger, frame, score, verdict, journal, broker; each stage a pure step and a thin loop around it."""
