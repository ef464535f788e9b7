"""What says that a part stands before the camera: datagrams, pins, an encoder, the camera, a timer, a command."""
