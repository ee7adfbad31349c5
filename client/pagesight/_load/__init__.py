"""The load generator behind `pagesight load`.

    plan ──> run ──> crew ──> drive (one per process) ──> wire ──> the server
                       │        ├── arrivals   open-loop send times
                       │        └── mix        the pictures to send; variants make bytes distinct
                       └──> tally (histogram, blocks) ──> summary ──> report.json
                                                    ├── slo      latency and error targets
                                                    ├── knee     highest sustainable rate
                                                    ├── compare  verdict on two reports
                                                    └── page     report.html (plots, style)

Open-loop load avoids coordinated omission: latency counts from the intended send time. The extra
`cli` is needed: only `histogram` imports hdrhistogram and only `plots` imports matplotlib, neither
before a load runs.
"""
