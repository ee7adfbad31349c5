"""Several processes behind one port: a supervisor that imports little, and a worker's view of it.

    serve ──settings──exec──> supervisor ──port reserved──> worker 1 ──listening──> worker 2 ... N
                                  ^                             │
                                  └── listening, loaded, changed, failed ── a pipe each
                                  ── settings, load, serving, changed ──> standard input of each

supervisor.py  starts, watches, restarts and drains the workers
restarts.py    when a worker is started again, and when no more
worker.py      a worker's end of the two pipes
launch.py      from the command `serve` to the supervisor
"""
