"""What goes over the wire: verdicts, a station's messages about itself, topics and datagrams. Pure: no socket, no clock."""
