"""What `pagesight-server` does on a command line, by what changes together.

serve.py        serve, doctor: what runs, and what would
index.py        index: a folder of pictures into a gallery
evaluate.py     evaluate: labelled screenshots against a gallery
calibrate.py    calibrate: where `other` begins
gallery.py      gallery ...: what an operator does with a store
options.py      what they share: options, settings, progress and where they print
"""
