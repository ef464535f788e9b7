"""One MQTT connection that never blocks its caller, never keeps a stale message, and comes back by itself."""
