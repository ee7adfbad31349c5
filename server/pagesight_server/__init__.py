"""The pagesight service: sorts phone screenshots into known pages or `other`.

Read `pipeline.py` first; `wiring.py` puts the parts together, for every command alike.
"""

import os

# Before numpy is loaded, as it reads this once. Weighing evidence multiplies small matrices, one
# screenshot in each thread; where the cores are busy with models, a second thread of the same
# product is waited for, spinning: 48 ms a query instead of 3.5 (tests/bench/bench_knowledge.py).
# The models have pools of their own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
