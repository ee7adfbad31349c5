"""The commands of `pagesight-server`.

serve.py        serve: the server; doctor: a check of everything that it needs
doctor.py       the checks behind `doctor`
index.py        index: enrols a folder of pictures
evaluate.py     evaluate: measures answers on labelled screenshots
calibrate.py    calibrate: places the threshold below which the answer is `other`
gallery.py      gallery ...: maintenance of a store
config.py       config show: the settings in effect
options.py      shared options, settings, progress bar and consoles
"""
