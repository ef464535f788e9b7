"""station.toml: its keys, and the file they are read from."""
