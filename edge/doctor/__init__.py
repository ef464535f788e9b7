"""`onbelt doctor`: what this box has and lacks, each with its remedy."""
