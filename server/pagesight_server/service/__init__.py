"""The gRPC edge. Alone in seeing the stubs; everything behind it takes and gives values.

server.py      assembles and runs: limits, reflection, drain
health.py      serving until the drain begins
classifier.py  ClassifierService: streams, deadlines, admission
galleries.py   GalleryService: changes and lists
reviews.py     ReviewService: kept answers, known items, decisions, figures
gates.py       how much is done for galleries at once
progress.py    how far a call has come
auth.py        who may call, and what for
rate_limits.py how much one caller may ask for
codec.py       bytes to messages, raised errors to statuses
convert.py     values to messages, errors to google.rpc.Status; convert_curation.py of diagnoses,
               convert_findings.py of their findings, convert_review.py of the review
"""
