"""The update repository: signed metadata (The Update Framework) and models, as plain files any static server can serve."""
