"""Lines of text: the reading of a picture, its normal forms, page lines, spelling variants."""
