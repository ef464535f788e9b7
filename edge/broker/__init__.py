"""The broker of the demo and of tests: embedded, on loopback, in a process of its own. A plant brings its own broker."""
