"""The page the box serves for the operator and the integrator: what was judged, why, and what the gate did."""
