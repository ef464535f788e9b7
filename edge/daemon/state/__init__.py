"""How the station stands: its phase, and what is watched so that its verdicts may count."""
