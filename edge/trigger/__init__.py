"""What says that a part stands before the camera: datagrams of the line, a timer, an MQTT command."""
