"""What the server's tests share: tiny pictures, models that need no weights, a real server.

pictures.py   pictures of one colour, as bytes
parts.py      readings, snapshots, models that see a colour and read what the test wrote
stores.py     stores with pictures in them
serving.py    the real gRPC server on a free port, with fake models
watching.py   telemetry into memory
collector.py  an OTLP collector
relay.py      a network that can fall silent
"""

WAIT_S = 60.0
"""Longest wait for anything that a test expects to happen; on a busy machine, for seconds."""
