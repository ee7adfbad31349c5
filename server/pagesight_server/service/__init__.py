"""The gRPC edge. Alone in seeing the stubs; everything behind it takes and gives values.

server.py      assembles and runs: limits, reflection, drain
health.py      serving until the drain begins
classifier.py  ClassifierService: streams, deadlines, admission
limits.py      how much one caller may ask for
galleries.py   GalleryService: changes and lists
protocol.py    values to messages, errors to google.rpc.Status
"""
