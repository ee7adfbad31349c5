"""What speaks for or against a page, one kind of evidence a file.

    scorer.py        what a scorer is given and what it returns; the weights of looks and text
    looks.py         how alike query and picture look
    all_text.py      how alike all their text reads
    page_text.py     what pages of the label always show, only they show, ever showed
    brands.py        the operator's brand names, visible or not
    replaced.py      other names where the label's own should stand
    siblings.py      the words in which a label differs from the one ranked first

A new kind of evidence is one class in one file here, a name in `candidates.TermName`, and a line in
`evidence.PagesightMethod`.
"""
