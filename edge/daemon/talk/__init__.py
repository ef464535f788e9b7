"""What the station says over MQTT, and what it is told."""
