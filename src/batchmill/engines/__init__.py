"""The ways to inference engines: the HTTP transport, the embedded one, and the simulator."""
