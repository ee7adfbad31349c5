"""The pagesight service: sorts phone screenshots into known pages or `other`.

Read `workflows/pipeline.py` first; `wiring.py` puts the parts together, for every command alike.
"""

import os

# Before numpy is loaded, as it reads this once. Weighing evidence multiplies small matrices, one
# screenshot in each thread; where the cores are busy with models, a second thread of the same
# product is waited for, spinning: 48 ms a query instead of 3.5 (tests/bench/bench_knowledge.py).
# The models have pools of their own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Before ONNX Runtime is loaded, as it reads this once. Its official builds (1.31.1 for one) report
# their use, the program's path included, to their maker, and keep a device id in HOME, unless told
# not to (Privacy.md in the wheel). A server of people's screenshots calls nobody of its own accord.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
