"""The signed model file `NAME.onbelt`: its manifest, its strict reader, its keys."""
