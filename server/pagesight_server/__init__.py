"""The pagesight service: sorts phone screenshots into known pages or `other`.

Read `pipeline.py` first; `__main__.py` constructs everything and wires it.
"""
