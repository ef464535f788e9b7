"""The networks: patch description network (teacher, student), auto-encoder and the fused detector."""
