"""The page of `pagesight review`: a person beside the machine.

    feeds      what waits: a folder, what the server kept, known items, questions of the doctor
    order      the most useful first
    queue      the hand of six          desk        deciding and undoing
    prepare    made ready ahead         reach       whether the server answers
    outbox     decisions on their way to the server
    pictures   screenshots and gallery pictures at hand
    batch      enrolling as one revision, previewed and undone      discovery   new pages
    export     labelled traffic as folders                          labels      type-ahead
    masking    digits are shown when they are asked for             reveals     and that noted first
    view       what is shown, as plain values -> templates/         static/     styles and keys
    app        the routes       security   who may use them         serve       on loopback

Only `pagesight review` imports what needs the extra `review`; the rest is the client's own. It
talks to the server through the SDK alone, with the caller's token, and keeps nothing.
"""
