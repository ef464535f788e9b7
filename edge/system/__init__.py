"""What is asked of Linux: who started us and is told how we are, the wall clock, real-time priority."""
