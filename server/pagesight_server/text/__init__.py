"""Lines of text: what was read, its normal form, spelling variants, matching."""
