"""One module per verb of the command line; each offers `add_arguments` and `run`."""
