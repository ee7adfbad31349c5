"""Shared parts of the server's tests: tiny pictures, models without weights, a real server.

pictures.py         pictures of one colour, as bytes
evaluations.py      folders of test screenshots, and a pipeline that answers by colour
alterations.py      what happens to screenshots, and the answers before and after
parts.py            readings, snapshots, fake models that encode a colour and read prepared texts
stores.py           stores with pictures in them
codes.py            stores large enough for product quantization, compared with SQL
fake_*.py           a server without models, whose answers tests can foresee (fake_server.py)
command.py          the `pagesight` command, given to such a server
gallery_calls.py    calls of GalleryService as they stand on the wire
registries.py       stores that fail as told, and registries that follow them
serving.py          the real gRPC server on a free port, with fake models
process.py          the real server in a process of its own
watching.py         telemetry exported into memory
collector.py        an OTLP collector
relay.py            a network that can fall silent
fuzzing.py          random inputs, reproducible by seed
congruence.py       two readings of a picture compared, and the OCR library as reference
coverage_totals.py  a pytest plugin that prints the coverage of each package
cuda.py             a CUDA runtime library without a GPU
faiss_gpu.py        the GPU half of faiss without a GPU
lock_metadata.py    what the pins of the GPU locks require, told by pip once
streams.py          streams of screenshots, sent and read
virtual_time.py     an event loop whose waits take no time
"""

WAIT_S = 60.0
"""Timeout for anything that a test expects to happen: usually milliseconds, on a busy machine
seconds."""
