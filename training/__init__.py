"""What learns: networks, teacher, losses, data sets, metrics and the training loop."""
