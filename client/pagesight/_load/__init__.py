"""What `pagesight load` runs on: a load generator whose figures can be believed.

    plan ──> run ──> crew ──> drive (one per process) ──> wire ──> the server
                       │        ├── arrivals   when to send
                       │        └── mix        what to send; variants make bytes distinct
                       └──> tally (histogram) ──> summary ──> report.json
                                                    ├── slo      was it fast enough
                                                    ├── knee     how much it sustains
                                                    ├── compare  before and after
                                                    └── page     report.html (plots, style)

Needs the extra `cli`: hdrhistogram in `histogram`, matplotlib in `plots`, each imported there
alone and not before a load runs.
"""
