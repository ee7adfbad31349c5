"""How right recognition is, over many sets at once; `bench_recognition.py` is the command.

    sets         folders -> gallery and test screenshots with their features, kept between runs
    methods      a set -> what each method answers, through `evaluation.compare`
    figures      answers -> rates, each with its interval
    curve        the same with fewer and more pictures a page
    constants    the numbers chosen by hand, and what moving each one does
    tables       all of it as Markdown

Imports point from the last to the first.
"""
