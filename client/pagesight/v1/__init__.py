"""The generated stubs of `protos/pagesight/v1`: `make protos` writes everything else here."""
